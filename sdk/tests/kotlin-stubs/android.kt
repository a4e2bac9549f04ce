// As androidx-work.kt, of Android.
package android.content

abstract class Context
