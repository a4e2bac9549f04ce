//! What SeaweedFS 4.48 does otherwise than AWS. `Server::differs` asserts each where it shows, so an entry
//! that a later version mends makes its test fail, and goes. An entry that no test names is a warning of the
//! compiler, and so an error of CI.

/// One thing that SeaweedFS does otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    // --- Objects ---
    /// A PUT, and CreateMultipartUpload, to a bucket that is not there creates it.
    MissingBucketIsMade,
    /// If-Match on a key that is not there is 412, not 404.
    IfMatchOnNothingIs412,
    /// An object that was sent without a type gets one that its bytes look like.
    TypeIsGuessed,
    /// DeleteObjects refuses more than 1,000 keys with another code.
    TooManyKeysHaveAnotherCode,

    // --- Integrity ---
    /// What is no digest at all is told as one that does not match.
    NoDigestIsABadDigest,
    /// An object that was sent without a checksum has none.
    NoChecksumOfItsOwn,
    /// HeadObject shows checksums without their type.
    NoChecksumType,
    /// Two checksums in one request pass.
    TwoChecksumsPass,
    /// The SHA-256 of a body that was signed is not compared with the body.
    SignedBodyIsNotChecked,
    /// A body without a length passes.
    LengthIsNotNeeded,
    /// A body that would be too large is read until it ends.
    TooLargeIsNotRefusedAtOnce,

    // --- Keys ---
    /// A key is a path: one that ends with a slash, or is the beginning of another, is a folder.
    KeysArePaths,
    /// `.` and `..` between slashes are resolved or refused.
    DotsAreFolders,
    /// A backslash divides folders.
    BackslashIsASlash,
    /// A segment of a key has 255 bytes at most.
    SegmentsAreShort,

    // --- Listings ---
    /// Keys are in the order of folders: `a/1` comes before `a-1`.
    FoldersComeInOrder,

    /// More than 1,000 keys on a page, if asked for.
    PagesMayBeLarger,
    /// `start-after` passes over the keys below it.
    StartAfterSkipsWhatIsBelow,
    /// The prefix is not spelt as `encoding-type` asks.
    PrefixIsNotEncoded,
    /// Any text is a continuation token.
    AnyTokenPasses,
    /// Multipart uploads are not in the order of their keys.
    UploadsAreInNoOrder,
    /// A delimiter does not roll multipart uploads up.
    UploadsAreNotRolledUp,

    // --- Multipart uploads ---
    /// A part stays listed, and its ETag good, after another was sent under its number.
    ReplacedPartStays,
    /// ListParts shows no checksums.
    PartsAreListedWithoutChecksums,
    /// A part number that is none has another code.
    PartNumberHasAnotherCode,
    /// A part may lack the checksum that was declared.
    PartNeedsNoDeclaredChecksum,
    /// One part may be named twice.
    PartMayBeNamedTwice,
    /// Complete without a part says that there is no upload.
    NoPartIsNoUpload,
    /// `x-amz-mp-object-size` is ignored.
    ObjectSizeIsIgnored,
    /// Abort of an upload that is gone succeeds.
    AbortMayBeRepeated,

    // --- Copies of parts ---
    /// The ETag of a copied part has no quotes.
    CopiedPartHasNoQuotes,
    /// A range that does not say `bytes=` is taken for the whole.
    AnyRangePasses,
    /// A range of a source of 5 MiB or less is copied.
    SmallSourcesHaveRanges,

    // --- Access ---
    /// A signature for another region passes.
    AnyRegionPasses,
    /// A signature of the future passes.
    FutureSignaturePasses,
    /// That a header is not signed is told as a wrong signature.
    UnsignedHeaderHasAnotherCode,

    // --- CORS ---
    /// A preflight is judged by its origin alone.
    PreflightLooksAtOriginOnly,
    /// Without rules, the checksums are not exposed.
    ChecksumsAreNotExposed,
}
