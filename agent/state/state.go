// Package state is what an agent keeps, in the database agent.db of its data directory:
//
//	device    its key, and a time that is past
//	meshes    the memberships, each with its CA, certificate and trust list
//	apps      what each app keeps in each mesh
//	invited, admitted, names
//	          whom this endpoint let in, and which endpoint each name has meant
//
// Join tokens are in the same database, see package tokens. A [Book] has what belongs to one
// membership.
package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/tokens"
	"ztm/apps"
	"ztm/store"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// The tables of agent.db.
var (
	deviceTable = store.NewTable[Device]("device")            // key "self"
	meshTable   = store.NewTable[authority.Row]("meshes")     // key: name of the mesh
	appTable    = store.NewTable[json.RawMessage]("apps")     // key: mesh/app/key
	inviteTable = store.NewTable[unixtime.Seconds]("invited") // key: mesh/user; latest admission time that was given here
	admitTable  = store.NewTable[Admission]("admitted")       // key: mesh/ID of an endpoint that was admitted here
	nameTable   = store.NewTable[api.KnownName]("names")      // key: mesh/name of an endpoint
)

// Device is this device.
type Device struct {
	Key      []byte           `json:"key"`      // PKCS#8 PEM
	LastSeen unixtime.Seconds `json:"lastSeen"` // it is at least so late
}

// Admission is an endpoint that this one has admitted.
type Admission struct {
	User     string           `json:"user"`
	Admitted unixtime.Seconds `json:"admitted,omitempty"` // in its certificate: after an eviction, later than At
	At       unixtime.Seconds `json:"at"`
}

func schema() []store.Migration { return nil }

// LoadDevice returns the device, which it makes with a new key if there is none.
func LoadDevice(db *store.DB) (d Device, err error) {
	err = db.Update(func(tx *store.Tx) error {
		var found bool
		if d, found, err = deviceTable.Get(tx, "self"); found || err != nil {
			return err
		}
		key, err := identity.NewKey()
		if err != nil {
			return err
		}
		d.Key = identity.MarshalPrivateKey(key)
		return deviceTable.Put(tx, "self", d)
	})
	return d, err
}

// TouchDevice raises LastSeen if a day has passed since it was written.
func TouchDevice(db *store.DB, now time.Time) error {
	return db.Update(func(tx *store.Tx) error {
		d, _, err := deviceTable.Get(tx, "self")
		if err != nil || unixtime.Of(now)-d.LastSeen < 24*3600 {
			return err
		}
		d.LastSeen = unixtime.Of(now)
		return deviceTable.Put(tx, "self", d)
	})
}

// Meshes returns the memberships, by the name of the mesh.
func Meshes(db *store.DB) (map[string]authority.Row, error) {
	rows := map[string]authority.Row{}
	err := db.View(func(tx *store.Tx) error {
		return meshTable.ForEach(tx, "", func(name string, row authority.Row) error {
			rows[name] = row
			return nil
		})
	})
	return rows, err
}

// SaveMesh writes a membership.
func SaveMesh(db *store.DB, name string, row authority.Row) error {
	return db.Update(func(tx *store.Tx) error { return meshTable.Put(tx, name, row) })
}

// deleteMesh deletes a mesh, the state of its apps, and the names and invitations of this endpoint
// there.
func deleteMesh(db *store.DB, name string) error {
	return db.Update(func(tx *store.Tx) error {
		if err := deleteAll(tx, appTable.Keys, appTable.Delete, name+"/"); err != nil {
			return err
		}
		if err := deleteAll(tx, nameTable.Keys, nameTable.Delete, name+"/"); err != nil {
			return err
		}
		if err := deleteAll(tx, inviteTable.Keys, inviteTable.Delete, name+"/"); err != nil {
			return err
		}
		if err := deleteAll(tx, admitTable.Keys, admitTable.Delete, name+"/"); err != nil {
			return err
		}
		if err := tokens.Forget(tx, name); err != nil {
			return err
		}
		return meshTable.Delete(tx, name)
	})
}

// deleteAll deletes all keys of a table with a prefix.
func deleteAll(tx *store.Tx, keys func(*store.Tx, string) ([]string, error), remove func(*store.Tx, string) error, prefix string) error {
	all, err := keys(tx, prefix)
	for _, k := range all {
		if err == nil {
			err = remove(tx, k)
		}
	}
	return err
}

// noteInvited remembers an admission time that was given to a user here, in a permit or a
// certificate.
func noteInvited(db *store.DB, mesh, user string, admitted time.Time) error {
	return db.Update(func(tx *store.Tx) error {
		last, _, err := inviteTable.Get(tx, mesh+"/"+user)
		if err != nil || last >= unixtime.Of(admitted) {
			return err
		}
		return inviteTable.Put(tx, mesh+"/"+user, unixtime.Of(admitted))
	})
}

// admittedFor is how long it is remembered who admitted an endpoint: as long as its first
// certificate is good. It needs a row for each, and hubs have a limit of those.
const admittedFor = identity.MemberLifetime

// noteAdmitted remembers that an endpoint was admitted here.
func noteAdmitted(db *store.DB, mesh string, id identity.ID, user string, admitted, now time.Time) error {
	return db.Update(func(tx *store.Tx) error {
		err := admitTable.DeleteFunc(tx, mesh+"/", func(_ string, r Admission) bool { return now.Sub(r.At.Time()) > admittedFor })
		if err != nil {
			return err
		}
		return admitTable.Put(tx, mesh+"/"+string(id), Admission{user, unixtime.Of(admitted), unixtime.Of(now)})
	})
}

// admissions returns the endpoints that were admitted here.
func admissions(db *store.DB, mesh string) (map[identity.ID]Admission, error) {
	all := map[identity.ID]Admission{}
	return all, db.View(func(tx *store.Tx) error {
		return admitTable.ForEach(tx, mesh+"/", func(key string, r Admission) error {
			all[identity.ID(strings.TrimPrefix(key, mesh+"/"))] = r
			return nil
		})
	})
}

// lastInvited returns the latest admission time that was given to a user here, and whether there
// was one.
func lastInvited(db *store.DB, mesh, user string) (admitted time.Time, found bool, err error) {
	err = db.View(func(tx *store.Tx) error {
		seconds, ok, err := inviteTable.Get(tx, mesh+"/"+user)
		admitted, found = seconds.Time(), ok
		return err
	})
	return admitted, found, err
}

// appState is the apps.State of one app in one mesh.
type appState struct {
	db     *store.DB
	prefix string // mesh/app/
}

var _ apps.State = (*appState)(nil)

// For returns what one app keeps in one mesh.
func For(db *store.DB, mesh, app string) apps.State { return &appState{db, mesh + "/" + app + "/"} }

func (s *appState) Load(key string, v any) (found bool, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		var raw json.RawMessage
		if raw, found, err = appTable.Get(tx, s.prefix+key); err != nil || !found {
			return err
		}
		return json.Unmarshal(raw, v)
	})
	if err != nil {
		return found, fmt.Errorf("%s%s: %w", s.prefix, key, err)
	}
	return found, nil
}

func (s *appState) Save(key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *store.Tx) error { return appTable.Put(tx, s.prefix+key, raw) })
}

func (s *appState) SaveAll(values map[string]any) error {
	raw := make(map[string]json.RawMessage, len(values))
	for key, v := range values {
		if v == nil {
			raw[key] = nil
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		raw[key] = b
	}
	return s.db.Update(func(tx *store.Tx) error {
		for key, b := range raw {
			if b == nil {
				if err := appTable.Delete(tx, s.prefix+key); err != nil {
					return err
				}
			} else if err := appTable.Put(tx, s.prefix+key, b); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *appState) Delete(key string) error {
	return s.db.Update(func(tx *store.Tx) error { return appTable.Delete(tx, s.prefix+key) })
}

func (s *appState) Keys(prefix string) (keys []string, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		full, err := appTable.Keys(tx, s.prefix+prefix)
		for _, k := range full {
			keys = append(keys, strings.TrimPrefix(k, s.prefix))
		}
		return err
	})
	return keys, err
}
