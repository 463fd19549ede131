// Package known is what the directory of a mesh said last, for people: while the hub is away they want
// to see names, and who was there. Nothing is decided by it.
package known

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/offer"
)

// Directory is what the directory said last. The zero value is empty and ready. Its methods may be
// called from any goroutine.
type Directory struct {
	mu  sync.Mutex
	eps map[identity.ID]knownEndpoint // guarded by mu; at most limits.Known
	at  time.Time                     // of the last answer of the hub; guarded by mu
}

type knownEndpoint struct {
	apps.Endpoint
	subject identity.Subject
	hubs    []identity.ID // that it is with, as a hub said: a hint where to ask for a path
}

// Remember keeps what a verified record says.
func (k *Directory) Remember(e apps.Endpoint, s identity.Subject, hubs []identity.ID, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = now
	if _, ok := k.eps[e.ID]; !ok && len(k.eps) >= limits.Known {
		return
	}
	if k.eps == nil {
		k.eps = map[identity.ID]knownEndpoint{}
	}
	k.eps[e.ID] = knownEndpoint{e, s, hubs[:min(len(hubs), maxKnownHubs)]}
}

// maxKnownHubs is how many hubs of an endpoint are remembered: it is with two, as a rule.
const maxKnownHubs = 4

// HubsOf returns the hubs that an endpoint is said to be with.
func (k *Directory) HubsOf(id identity.ID) []identity.ID {
	k.mu.Lock()
	hubs := k.eps[id].hubs
	k.mu.Unlock()
	return hubs
}

// NameOf returns the last name of an endpoint; "" if none is known.
func (k *Directory) NameOf(id identity.ID) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.eps[id].Name
}

// Labels gives the name of a peer beside its ID, in a sample of a counter. It is empty where none is
// known, which is no label to those who read it.
func (k *Directory) Labels(label, value string) []string {
	if label != "peer" {
		return nil
	}
	return []string{"endpoint", k.NameOf(identity.ID(value))}
}

// Endpoint returns what is known of an endpoint, and since when: whether it is online is not.
func (k *Directory) Endpoint(id identity.ID) (e apps.Endpoint, at time.Time, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, ok := k.eps[id]
	kept.Online, kept.Unknown = false, true
	return kept.Endpoint, k.at, ok
}

// AsOf returns when the hub answered last; the zero time if it never did.
func (k *Directory) AsOf() time.Time {
	k.mu.Lock()
	at := k.at
	k.mu.Unlock()
	return at
}

// Until returns when the certificate of an endpoint ends; the zero time if that is not known.
func (k *Directory) Until(id identity.ID) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.eps[id].subject.NotAfter
}

// Admitted lists when the endpoints of a user were admitted.
func (k *Directory) Admitted(user string) (out []time.Time) {
	k.mu.Lock()
	for _, e := range k.eps {
		if e.subject.User == user {
			out = append(out, e.subject.Admitted)
		}
	}
	k.mu.Unlock()
	return out
}

// List returns the endpoints that match a filter, by name, and when that was so: whether they are
// online is not known.
// good says whether one is still a member.
func (k *Directory) List(f apps.Filter, good func(identity.Subject) bool) ([]apps.Endpoint, time.Time) {
	k.mu.Lock()
	out := []apps.Endpoint{}
	for _, e := range k.eps {
		e.Online, e.Unknown = false, true
		if good(e.subject) && Matches(e.Endpoint, f) && hasKeyword(e.Endpoint, f.Keyword) {
			out = append(out, e.Endpoint)
		}
	}
	at := k.at
	k.mu.Unlock()
	slices.SortFunc(out, func(a, b apps.Endpoint) int { return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	out = out[min(f.Offset, len(out)):]
	if f.Limit > 0 {
		out = out[:min(f.Limit, len(out))]
	}
	return out, at
}

func hasKeyword(e apps.Endpoint, word string) bool {
	return strings.Contains(e.Name, word) || slices.ContainsFunc(e.Labels, func(l string) bool { return strings.Contains(l, word) })
}

// Naming returns a log handler that gives the names of endpoints beside their IDs, where the directory
// has said one: that of a peer as an attribute, others in the text: "exit ID (NAME): no answer".
func (k *Directory) Naming(h slog.Handler) slog.Handler { return naming{h, k} }

type naming struct {
	slog.Handler
	known *Directory
}

func (n naming) Handle(ctx context.Context, rec slog.Record) error {
	named := slog.NewRecord(rec.Time, rec.Level, rec.Message, rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		named.AddAttrs(n.name(a)...)
		return true
	})
	return n.Handler.Handle(ctx, named)
}

func (n naming) WithAttrs(attrs []slog.Attr) slog.Handler {
	var all []slog.Attr
	for _, a := range attrs {
		all = append(all, n.name(a)...)
	}
	return naming{n.Handler.WithAttrs(all), n.known}
}

func (n naming) WithGroup(name string) slog.Handler {
	return naming{n.Handler.WithGroup(name), n.known}
}

// name returns an attribute with the names of the endpoints in it.
func (n naming) name(a slog.Attr) []slog.Attr {
	switch v := a.Value.Any().(type) {
	case identity.ID:
		name := n.known.NameOf(v)
		switch {
		case name == "":
		case a.Key == "peer":
			return []slog.Attr{a, slog.String("name", name)}
		default:
			return []slog.Attr{slog.String(a.Key, beside(string(v), name))}
		}
	case string:
		return []slog.Attr{slog.String(a.Key, n.text(v))}
	case error:
		if was := v.Error(); n.text(was) != was {
			return []slog.Attr{slog.String(a.Key, n.text(was))}
		}
	}
	return []slog.Attr{a}
}

// text puts names beside the IDs in a text.
func (n naming) text(s string) string {
	var out strings.Builder
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '2' || r > 'z' || r > '9' && r < 'a' })
		switch end {
		case -1:
			end = len(s)
		case 0:
			_, end = utf8.DecodeRuneInString(s)
		}
		word := s[:end]
		if name := n.known.NameOf(identity.ID(word)); name != "" {
			word = beside(word, name)
		}
		out.WriteString(word)
		s = s[end:]
	}
	return out.String()
}

func beside(id, name string) string { return id + " (" + name + ")" }

// Matches checks again what the hub was asked for: a hub that answers with other records must not
// change what an app picks.
func Matches(e apps.Endpoint, f apps.Filter) bool {
	named, perhaps := offer.Has(e.Offers, f.Offer)
	return (f.Name == "" || e.Name == f.Name) && (f.User == "" || e.User == f.User) &&
		(f.Offer == "" || named || perhaps) && (!f.Online || e.Online)
}
