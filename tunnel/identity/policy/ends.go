package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"sort"

	"ztm/tunnel/unixtime"
)

// Ends says when the access of users ends, without their names: every endpoint has those of all
// users, as anybody may come to it. Each is a mark and a time:
//
//	mark   8 bytes, the first of the SHA-256 of the name
//	time   5 bytes, Unix seconds, the most significant first
//
// They are sorted by their marks, each of which is there once. Two users of one mark end together,
// with the earlier of them. [MaxUsers] of them leave room for the rest of a slice.
type Ends []byte

const (
	markSize = 8
	endSize  = markSize + 5
)

// EndsOf makes the Ends of users, in Unix seconds.
func EndsOf(users map[string]unixtime.Seconds) Ends {
	all := make([][endSize]byte, 0, len(users))
	for name, at := range users {
		var e [endSize]byte
		var end [8]byte
		binary.BigEndian.PutUint64(end[:], uint64(at))
		copy(e[:], markOf(name))
		copy(e[markSize:], end[3:])
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b [endSize]byte) int { return bytes.Compare(a[:], b[:]) })
	out := make(Ends, 0, len(all)*endSize)
	for i, e := range all {
		if i == 0 || !bytes.Equal(e[:markSize], all[i-1][:markSize]) {
			out = append(out, e[:]...)
		}
	}
	return out
}

func markOf(user string) []byte {
	sum := sha256.Sum256([]byte(user))
	return sum[:markSize]
}

// Of is when the access of a user ends, in Unix seconds; 0: it does not.
func (e Ends) Of(user string) unixtime.Seconds {
	if len(e) == 0 {
		return 0
	}
	mark := markOf(user)
	i := sort.Search(e.len(), func(i int) bool { return bytes.Compare(e.mark(i), mark) >= 0 })
	if i == e.len() || !bytes.Equal(e.mark(i), mark) {
		return 0
	}
	return e.at(i)
}

// All yields the times.
func (e Ends) All() iter.Seq[unixtime.Seconds] {
	return func(yield func(unixtime.Seconds) bool) {
		for i := range e.len() {
			if !yield(e.at(i)) {
				return
			}
		}
	}
}

func (e Ends) len() int          { return len(e) / endSize }
func (e Ends) mark(i int) []byte { return e[i*endSize:][:markSize] }
func (e Ends) at(i int) unixtime.Seconds {
	var end [8]byte
	copy(end[3:], e[i*endSize+markSize:][:endSize-markSize])
	return unixtime.Seconds(binary.BigEndian.Uint64(end[:]))
}

// good reports whether these are Ends in their one form.
func (e Ends) good() bool {
	if e == nil || len(e)%endSize != 0 {
		return false
	}
	for i := range e.len() {
		if i > 0 && bytes.Compare(e.mark(i-1), e.mark(i)) >= 0 {
			return false
		}
	}
	return true
}
