package entry

import (
	"cmp"
	"errors"
	"slices"

	"ztm/tunnel/identity"
)

// Vector is a version vector: how many versions of a file each endpoint has made. It is sorted by
// endpoint, and each count is positive, so that one vector has one form. The zero value is that of a
// file which never was. Vectors are shared: they are read, and made anew to be changed.
type Vector []Count

// Count is how many versions an endpoint has made.
type Count struct {
	By identity.ID `json:"by"`
	N  uint64      `json:"n"`
}

// maxVector is how many endpoints can have made versions of a file.
const maxVector = 64

// Order says how two vectors stand to each other.
type Order int

// The orders.
const (
	Equal      Order = iota
	Before           // the second knows all that the first knows, and more
	After            // the other way round
	Concurrent       // each knows what the other does not
)

// Compare compares two vectors. Clocks have no part in it.
func Compare(a, b Vector) Order {
	less, more := false, false
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].By < b[0].By:
			more, a = true, a[1:]
		case len(a) == 0 || b[0].By < a[0].By:
			less, b = true, b[1:]
		default:
			less, more = less || a[0].N < b[0].N, more || a[0].N > b[0].N
			a, b = a[1:], b[1:]
		}
	}
	switch {
	case less && more:
		return Concurrent
	case less:
		return Before
	case more:
		return After
	}
	return Equal
}

// Merge returns the vector that knows all that both know.
func Merge(a, b Vector) Vector {
	out := slices.Clone(a)
	for _, c := range b {
		i, found := out.find(c.By)
		if found {
			out[i].N = max(out[i].N, c.N)
		} else {
			out = slices.Insert(out, i, c)
		}
	}
	return out
}

// Next returns the vector of a version that an endpoint makes of one that knows v.
func (v Vector) Next(by identity.ID) Vector {
	i, found := v.find(by)
	out := slices.Clone(v)
	if !found {
		return slices.Insert(out, i, Count{by, 1})
	}
	out[i].N++
	return out
}

func (v Vector) find(by identity.ID) (int, bool) {
	return slices.BinarySearchFunc(v, by, func(c Count, id identity.ID) int { return cmp.Compare(c.By, id) })
}

func (v Vector) check() error {
	if len(v) == 0 || len(v) > maxVector {
		return errors.New("the version has no author, or too many")
	}
	for i, c := range v {
		if _, err := identity.ParseID(string(c.By)); err != nil {
			return err
		}
		if c.N == 0 || c.N > 1<<53 || i > 0 && v[i-1].By >= c.By {
			return errors.New("the version vector is not in its one form")
		}
	}
	return nil
}
