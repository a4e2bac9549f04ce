//! What a transaction of several round trips does, as parts of one statement and so in one. PostgreSQL only: SQLite
//! is in the process, where a round trip costs nothing. A statement that finds that it may not do its part changes
//! nothing and answers no row, or the row as it was; who sent it looks why.

use sea_orm::{EntityTrait, IdenStatic, Iterable};

use crate::lifecycle::{Event, Status};

/// The columns of an entity, each by its name, of what a statement calls `table`. A prepared statement that
/// answers `*` fails once a migration has added a column, in programs older than that.
pub(super) fn columns<E: EntityTrait>(table: &str) -> String {
    let columns = E::Column::iter().map(|column| format!("{table}.{}", column.as_str()));
    columns.collect::<Vec<_>>().join(", ")
}

/// What [`super::apply`] does, as tables of a WITH: `session` is the row as it is now, and what was moved is kept in
/// `upload_events`. They are empty where the lifecycle, the life of the upload or `condition` does not allow it. `set`
/// and `condition` name the columns of `before`, the row as it was.
///
/// All that a statement reads is as it was when it began, and it may wait for the row after that; so the row has to be
/// the same version still. Whoever takes a confirmation back locks the row before, and changes it.
///
/// Of the statement's parameters `$1` is the upload, `$2` the time, and `event_id` that of the event.
pub(super) fn moves(event: Event, event_id: &str, condition: &str, set: &[(&str, &str)]) -> String {
    let set: String = set.iter().map(|(column, value)| format!(", {column} = {value}")).collect();
    let to = event.from().iter().find_map(|from| event.apply(*from)).map_or("", Status::name);
    format!(
        "session AS (
            UPDATE upload_sessions SET status = '{to}',
                updated_at = GREATEST($2, before.updated_at + interval '1 millisecond') {set}
            FROM upload_sessions AS before
            WHERE upload_sessions.upload_id = $1 AND before.upload_id = $1
                AND upload_sessions.xmin = before.xmin AND {from}
                AND (NOT {mortal} OR before.expires_at > $2) {condition}
            RETURNING upload_sessions.*, before.status AS was
        ), recorded AS (
            INSERT INTO upload_events (event_id, upload_id, at, event, from_status, to_status)
            SELECT {event_id}, upload_id, updated_at, '{name}', was, status FROM session WHERE was <> status
        )",
        from = is_one_of("before.status", event.from()),
        mortal = is_one_of("before.status", Event::Expire.from()),
        name = event.name(),
    )
}

/// Whether a row that is looked up by its id has one of these statuses. Not by the column itself: what PostgreSQL knows
/// of that allows it to look for the row in an index of those under way instead, and to read all of that, where it
/// last counted few; there may be thousands before it counts again.
pub(super) fn is_one_of(column: &str, statuses: &[Status]) -> String {
    let names: Vec<String> = statuses.iter().map(|status| format!("'{}'", status.name())).collect();
    format!("{column} || '' IN ({})", names.join(", "))
}
