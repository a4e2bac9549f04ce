//! Looking for chunks over the whole bucket, for those that no upload of the database knows.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Storage;
use super::error::StorageError;

impl Storage {
    /// A page of the ids of uploads that may have chunks in the bucket, and where the next page begins. One
    /// LIST for each 1,000 uploads, finished ones included: the delimiter folds the chunks of each into one
    /// entry. What a server makes of a delimiter of several letters differs, so an id is only a place to look.
    pub async fn ids_with_chunks(
        &self,
        next: Option<String>,
    ) -> Result<(BTreeSet<Uuid>, Option<String>), StorageError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(format!("{}uploads/", self.settings.key_prefix))
            .delimiter("/chunks/")
            .set_continuation_token(next)
            .send()
            .await
            .map_err(|error| StorageError::from_sdk("ListObjectsV2", error))?;
        let folded = page.common_prefixes().iter().filter_map(|folded| folded.prefix());
        let plain = page.contents().iter().filter_map(|object| object.key());
        // A file may be called `chunks`; a finished one lies under `final/`.
        let plain = plain.filter(|key| !key.contains("/final/"));
        let ids = folded.chain(plain).filter_map(|key| self.id_in(key)).collect();
        let more = page.is_truncated().unwrap_or_default();
        Ok((ids, page.next_continuation_token().filter(|_| more).map(str::to_owned)))
    }

    fn id_in(&self, key: &str) -> Option<Uuid> {
        let below = key.strip_prefix(&self.settings.key_prefix)?.strip_prefix("uploads/")?;
        below.split('/').next()?.parse().ok()
    }
}
