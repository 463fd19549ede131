package directory

import (
	"ztm/store"
	"ztm/tunnel/identity"
)

// The directory in the hub's database. Nothing is written on a timer, and a row only when its content changes:
// flash wears out.
var (
	endpointTable = store.NewTable[row]("endpoints")  // by endpoint ID
	nameTable     = store.NewTable[keptName]("names") // by name: those that are kept for a user
)

// row is one endpoint of the directory.
type row struct {
	Doc     []byte           `json:"doc"` // as the endpoint signed it
	Subject identity.Subject `json:"subject"`
	Record  identity.Record  `json:"record"`         // without the certificate, which Doc holds
	Copy    bool             `json:"copy,omitempty"` // it came from another hub, never from the endpoint itself
}

// table is the directory's part of a hub's database.
type table struct{ db *store.DB }

// endpoints calls f for every stored endpoint.
func (t table) endpoints(f func(row)) error {
	return t.db.View(func(tx *store.Tx) error {
		return endpointTable.ForEach(tx, "", func(_ string, r row) error {
			f(r)
			return nil
		})
	})
}

// names returns the names that are kept.
func (t table) names() (map[string]keptName, error) {
	names := map[string]keptName{}
	err := t.db.View(func(tx *store.Tx) error {
		return nameTable.ForEach(tx, "", func(name string, k keptName) error {
			names[name] = k
			return nil
		})
	})
	return names, err
}

// set stores rows by ID, and names that are kept. A nil row removes the endpoint, and a nil name
// frees it.
func (t table) set(rows map[identity.ID]*row, names map[string]*keptName) error {
	return t.db.Update(func(tx *store.Tx) error {
		for id, r := range rows {
			if err := setRow(tx, endpointTable, string(id), r); err != nil {
				return err
			}
		}
		for name, k := range names {
			if err := setRow(tx, nameTable, name, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// setRow stores a row, or deletes it if there is none.
func setRow[T any](tx *store.Tx, t store.Table[T], key string, r *T) error {
	if r == nil {
		return t.Delete(tx, key)
	}
	return t.Put(tx, key, *r)
}
