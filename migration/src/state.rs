//! Which migrations a database has. Only looks: the framework's own look makes its table first.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::Migrator;

/// How the migrations of a database differ from those of this program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The database lacks these.
    pub missing: Vec<String>,
    /// This program lacks these: a newer one has been there.
    pub unknown: Vec<String>,
}

pub async fn difference(db: &DatabaseConnection) -> Result<Difference, DbErr> {
    let ours: Vec<String> =
        Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let table = Migrator::migration_table_name().to_string();
    let applied = if SchemaManager::new(db).has_table(&table).await? {
        let asked = format!("SELECT version FROM {table} ORDER BY version");
        let rows =
            db.query_all_raw(Statement::from_string(db.get_database_backend(), asked)).await?;
        rows.iter().map(|row| row.try_get("", "version")).collect::<Result<Vec<String>, _>>()?
    } else {
        Vec::new()
    };
    let without = |these: &[String], those: &[String]| {
        these.iter().filter(|name| !those.contains(name)).cloned().collect()
    };
    Ok(Difference { missing: without(&ours, &applied), unknown: without(&applied, &ours) })
}
