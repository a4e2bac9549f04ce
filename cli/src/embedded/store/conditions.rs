//! What a request demands of an object before it is read, copied or replaced.

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3Result, s3_error};

use super::bucket::Condition;
use super::failure::precondition_failed;
use super::record::ObjectRecord;

/// The conditions of a read or of a copy's source.
pub struct ReadConditions<'a> {
    pub if_match: Option<&'a ETagCondition>,
    pub if_none_match: Option<&'a ETagCondition>,
    pub if_modified_since: Option<&'a Timestamp>,
    pub if_unmodified_since: Option<&'a Timestamp>,
}

impl ReadConditions<'_> {
    /// `unchanged` is the answer where the object is the one the client has already: 304 to a read,
    /// 412 to a copy. A condition on the ETag overrules the one on the time.
    pub fn check(
        &self,
        record: &ObjectRecord,
        unchanged: fn(&ObjectRecord) -> S3Error,
    ) -> S3Result<()> {
        let modified = Timestamp::from(record.modified);
        let matches = |condition: &ETagCondition| {
            condition.as_etag().is_none_or(|etag| etag.value() == record.etag)
        };
        let unmet = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => !matches(condition),
            (None, Some(time)) => modified > *time,
            (None, None) => false,
        };
        if unmet {
            return Err(precondition_failed());
        }
        let same = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => matches(condition),
            (None, Some(time)) => modified <= *time,
            (None, None) => false,
        };
        if same { Err(unchanged(record)) } else { Ok(()) }
    }
}

pub fn not_modified(record: &ObjectRecord) -> S3Error {
    let mut answer = s3_error!(NotModified);
    if let Ok(etag) = ETag::Strong(record.etag.clone()).to_http_header() {
        answer.set_headers([(hyper::header::ETAG, etag)].into_iter().collect());
    }
    answer
}

/// The condition of a write. AWS knows If-None-Match with `*` only.
pub fn write_condition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::Etag(etag.value().to_owned())),
        _ => Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented."
        )),
    }
}
