package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// errReadOnly is a write inside [DB.View].
var errReadOnly = errors.New("transaction is read-only")

// Table is a table of values of type T, kept as JSON. It is a name and nothing more: it may be copied, and needs no
// database to exist. T must survive encoding/json; an UnmarshalJSON of T must copy what it keeps.
type Table[T any] struct{ name string }

// NewTable returns the table of that name, which must not be empty. Names that begin with an underscore are the
// package's own. A table comes into being with its first Put.
func NewTable[T any](name string) Table[T] { return Table[T]{name: name} }

// Get returns the value of key and whether there is one.
func (t Table[T]) Get(tx *Tx, key string) (v T, found bool, err error) {
	b := tx.bolt.Bucket([]byte(t.name))
	if b == nil {
		return v, false, nil
	}
	stored := b.Get([]byte(key))
	if stored == nil {
		return v, false, nil
	}
	v, err = t.decode([]byte(key), stored)
	return v, err == nil, err
}

// Put sets the value of key, which must not be empty. It writes nothing if the stored value is the same already.
func (t Table[T]) Put(tx *Tx, key string, v T) error {
	if !tx.bolt.Writable() {
		return t.wrap(key, errReadOnly)
	}
	fresh, err := json.Marshal(v)
	if err != nil {
		return t.wrap(key, err)
	}
	b, err := tx.bolt.CreateBucketIfNotExists([]byte(t.name))
	if err != nil {
		return t.wrap(key, err)
	}
	if stored := b.Get([]byte(key)); stored != nil && bytes.Equal(stored, fresh) {
		return nil
	}
	if err := b.Put([]byte(key), fresh); err != nil {
		return t.wrap(key, err)
	}
	tx.changed = true
	return nil
}

// Delete removes key; that it is not there is no error.
func (t Table[T]) Delete(tx *Tx, key string) error {
	if !tx.bolt.Writable() {
		return t.wrap(key, errReadOnly)
	}
	b := tx.bolt.Bucket([]byte(t.name))
	if b == nil || b.Get([]byte(key)) == nil {
		return nil
	}
	if err := b.Delete([]byte(key)); err != nil {
		return t.wrap(key, err)
	}
	tx.changed = true
	return nil
}

// ForEach calls fn for every key with the prefix, in the order of the keys' bytes, until fn returns an error, which
// ForEach returns. fn must not change the table; collect [Table.Keys] first to do that.
func (t Table[T]) ForEach(tx *Tx, prefix string, fn func(key string, v T) error) error {
	return t.scan(tx, prefix, func(key, stored []byte) error {
		v, err := t.decode(key, stored)
		if err != nil {
			return err
		}
		return fn(string(key), v)
	})
}

// Keys returns all keys with the prefix, in the order of their bytes.
func (t Table[T]) Keys(tx *Tx, prefix string) ([]string, error) {
	var keys []string
	err := t.scan(tx, prefix, func(key, _ []byte) error {
		keys = append(keys, string(key))
		return nil
	})
	return keys, err
}

// scan calls fn with slices that point into the mapping.
func (t Table[T]) scan(tx *Tx, prefix string, fn func(key, stored []byte) error) error {
	b := tx.bolt.Bucket([]byte(t.name))
	if b == nil {
		return nil
	}
	c, p := b.Cursor(), []byte(prefix)
	for key, stored := c.Seek(p); key != nil && bytes.HasPrefix(key, p); key, stored = c.Next() {
		if err := fn(key, stored); err != nil {
			return err
		}
	}
	return nil
}

// decode makes a value of stored bytes; nothing in it points at them.
func (t Table[T]) decode(key, stored []byte) (v T, err error) {
	if err := json.Unmarshal(stored, &v); err != nil {
		return v, t.wrap(string(key), err)
	}
	return v, nil
}

func (t Table[T]) wrap(key string, err error) error {
	return fmt.Errorf("table %s, key %q: %w", t.name, key, err)
}
