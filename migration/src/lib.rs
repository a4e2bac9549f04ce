//! The database schema, as frozen migrations. They import no entity, so that a migration means the same
//! for ever, whatever the program around it becomes.

mod legacy;
mod lock;
mod m20261123_000001_uploads;
mod m20261124_000002_upkeep;
mod m20261125_000001_owner_quota;
mod m20261125_000002_traceparent;
mod m20261125_000003_chunk_counts;
mod state;

pub use lock::up;
use sea_orm_migration::prelude::*;
pub use state::{Difference, difference};

pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_uploads::Migration),
            Box::new(m20261124_000002_upkeep::Migration),
            Box::new(m20261125_000001_owner_quota::Migration),
            Box::new(m20261125_000002_traceparent::Migration),
            Box::new(m20261125_000003_chunk_counts::Migration),
        ]
    }

    fn migration_table_name() -> DynIden {
        "upflow_migrations".into_iden()
    }
}
