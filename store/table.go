package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// errReadOnly is a write inside [DB.View].
var errReadOnly = errors.New("transaction is read-only")

// Table is a table of values of type T, kept as JSON. It is a name and nothing more: it may be
// copied, and needs no database to exist. T must survive encoding/json; an UnmarshalJSON of T must
// copy what it keeps.
type Table[T any] struct{ rows rows }

// NewTable returns the table of that name, which must not be empty. Names that begin with an
// underscore are the package's own. A table comes into being with its first Put.
func NewTable[T any](name string) Table[T] { return Table[T]{rows(name)} }

// Get returns the value of key and whether there is one.
func (t Table[T]) Get(tx *Tx, key string) (v T, found bool, err error) {
	found, err = t.rows.get(tx, key, &v)
	return v, found, err
}

// Put sets the value of key, which must not be empty. It writes nothing if the stored value is the
// same already.
func (t Table[T]) Put(tx *Tx, key string, v T) error { return t.rows.put(tx, key, v) }

// Delete removes key; that it is not there is no error.
func (t Table[T]) Delete(tx *Tx, key string) error { return t.rows.delete(tx, key) }

// ForEach calls fn for every key with the prefix, in the order of the keys' bytes, until fn returns
// an error, which ForEach returns. fn must not change the table: see [Table.DeleteFunc] and [Table.Keys].
func (t Table[T]) ForEach(tx *Tx, prefix string, fn func(key string, v T) error) error {
	return t.rows.scan(tx, prefix, func(key string, stored []byte) error {
		var v T
		if err := t.rows.decode(key, stored, &v); err != nil {
			return err
		}
		return fn(key, v)
	})
}

// DeleteFunc deletes every key with the prefix for which gone returns true. It calls gone for all of
// them, in the order of the keys' bytes, before it deletes the first.
func (t Table[T]) DeleteFunc(tx *Tx, prefix string, gone func(key string, v T) bool) error {
	var keys []string
	err := t.ForEach(tx, prefix, func(key string, v T) error {
		if gone(key, v) {
			keys = append(keys, key)
		}
		return nil
	})
	for _, key := range keys {
		if err == nil {
			err = t.Delete(tx, key)
		}
	}
	return err
}

// Keys returns all keys with the prefix, in the order of their bytes.
func (t Table[T]) Keys(tx *Tx, prefix string) ([]string, error) { return t.rows.keys(tx, prefix) }

// rows is the name of a table, and all that there is to do that does not depend on the type of the
// values: the compiler makes a copy of a [Table] for each.
type rows string

func (r rows) get(tx *Tx, key string, v any) (found bool, err error) {
	b := tx.bolt.Bucket([]byte(r))
	if b == nil {
		return false, nil
	}
	stored := b.Get([]byte(key))
	if stored == nil {
		return false, nil
	}
	err = r.decode(key, stored, v)
	return err == nil, err
}

func (r rows) put(tx *Tx, key string, v any) error {
	if !tx.bolt.Writable() {
		return r.wrap(key, errReadOnly)
	}
	fresh, err := json.Marshal(v)
	if err != nil {
		return r.wrap(key, err)
	}
	b, err := tx.bolt.CreateBucketIfNotExists([]byte(r))
	if err != nil {
		return r.wrap(key, err)
	}
	if stored := b.Get([]byte(key)); stored != nil && bytes.Equal(stored, fresh) {
		return nil
	}
	if err := b.Put([]byte(key), fresh); err != nil {
		return r.wrap(key, err)
	}
	tx.changed = true
	return nil
}

func (r rows) delete(tx *Tx, key string) error {
	if !tx.bolt.Writable() {
		return r.wrap(key, errReadOnly)
	}
	b := tx.bolt.Bucket([]byte(r))
	if b == nil || b.Get([]byte(key)) == nil {
		return nil
	}
	if err := b.Delete([]byte(key)); err != nil {
		return r.wrap(key, err)
	}
	tx.changed = true
	return nil
}

func (r rows) keys(tx *Tx, prefix string) ([]string, error) {
	var keys []string
	err := r.scan(tx, prefix, func(key string, _ []byte) error {
		keys = append(keys, key)
		return nil
	})
	return keys, err
}

// scan calls fn with values that point into the mapping.
func (r rows) scan(tx *Tx, prefix string, fn func(key string, stored []byte) error) error {
	b := tx.bolt.Bucket([]byte(r))
	if b == nil {
		return nil
	}
	c, p := b.Cursor(), []byte(prefix)
	for key, stored := c.Seek(p); key != nil && bytes.HasPrefix(key, p); key, stored = c.Next() {
		if err := fn(string(key), stored); err != nil {
			return err
		}
	}
	return nil
}

// decode sets what v points to; nothing in it points at stored.
func (r rows) decode(key string, stored []byte, v any) error {
	err := json.Unmarshal(stored, v)
	switch {
	case err == nil:
		return nil
	case json.Valid(stored):
		return r.wrap(key, fmt.Errorf("another version of ztm wrote it, and this one cannot read it: %w", err))
	}
	return r.wrap(key, err)
}

func (r rows) wrap(key string, err error) error {
	return fmt.Errorf("table %s, key %q: %w", string(r), key, err)
}
