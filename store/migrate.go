package store

import "fmt"

// Migration brings the database from one version of the schema to the next. It runs once in the
// life of a file, inside the same transaction as the others that are due.
type Migration func(*Tx) error

// schemaTable holds the version of the schema under the key "version".
var schemaTable = NewTable[int]("_schema")

// migrate runs the migrations that the file has not seen, all of them or none.
func (db *DB) migrate(schema []Migration) error {
	return db.Update(func(tx *Tx) error {
		version, _, err := schemaTable.Get(tx, "version")
		if err != nil {
			return fmt.Errorf("%s: %w", db.path, err)
		}
		if version > len(schema) {
			return fmt.Errorf("%s was written by a newer version of ztm (schema %d, this one knows %d): update ztm",
				db.path, version, len(schema))
		}
		for ; version < len(schema); version++ {
			if err := schema[version](tx); err != nil {
				return fmt.Errorf("%s: migrate from schema %d: %w", db.path, version, err)
			}
		}
		return schemaTable.Put(tx, "version", version)
	})
}
