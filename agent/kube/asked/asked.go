// Package asked is how objects of a cluster ask for something in annotations: how values are read,
// and what is answered.
package asked

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"ztm/agent/kube/cluster"
)

// MaxName is the longest name of a tunnel, in bytes.
const MaxName = 63

// Reasons of notes, as events of Kubernetes have them.
const (
	Exposed       = "Exposed"
	ExposeRefused = "ExposeRefused"
	Imported      = "Imported"
	ImportRefused = "ImportRefused"
	NoExit        = "NoExit"
)

// Note is what a Service is to hear.
type Note struct {
	Service cluster.Meta
	Reason  string
	Message string // a sentence or more
}

// Warns reports whether the note says that something is not as it was asked for.
func (n *Note) Warns() bool { return n.Reason != Exposed && n.Reason != Imported }

// SortNotes sorts notes by namespace and name of the Service.
func SortNotes(notes []*Note) {
	slices.SortFunc(notes, func(a, b *Note) int {
		return cmp.Or(strings.Compare(a.Service.Namespace, b.Service.Namespace), strings.Compare(a.Service.Name, b.Service.Name), strings.Compare(a.Message, b.Message))
	})
}

// ByAge returns Services in the order of their age; of two of one second the one with the smaller ID
// comes first.
func ByAge(list []cluster.Service) []*cluster.Service {
	sorted := make([]*cluster.Service, len(list))
	for i := range list {
		sorted[i] = &list[i]
	}
	slices.SortFunc(sorted, func(a, b *cluster.Service) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.UID, b.UID))
	})
	return sorted
}

// Value returns one of our annotations or labels.
func Value(notes cluster.Notes, prefix, name string) (string, bool) {
	v, ok := notes[prefix+"/"+name]
	return strings.TrimSpace(v), ok
}

// Words splits a list: commas and spaces are between its elements.
func Words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// Listed writes some words in a row: the first ones, if they are many.
func Listed(words []string) string {
	const most = 8
	if len(words) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
	}
	return strings.Join(words, ", ")
}

// Valid reports whether a name can be that of a tunnel, but for its length. The names here are
// ASCII.
func Valid(name string) bool {
	return strings.Trim(name, ".") != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r >= unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	})
}

// Covers reports whether a list has a name, or the beginning of it with a star behind.
func Covers(list []string, name string) bool {
	return slices.ContainsFunc(list, func(allowed string) bool {
		prefix, open := strings.CutSuffix(allowed, "*")
		return allowed == name || open && strings.HasPrefix(name, prefix)
	})
}
