package agent

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// known is what the directory said last, for people: while the hub is away they want to see names,
// and who was there. Nothing is decided by it. The zero value is empty.
type known struct {
	mu  sync.Mutex
	eps map[identity.ID]knownEndpoint // guarded by mu; at most limits.Known
	at  time.Time                     // of the last answer of the hub; guarded by mu
}

type knownEndpoint struct {
	apps.Endpoint
	subject identity.Subject
	hubs    []identity.ID // that it is with, as a hub said: a hint where to ask for a path
}

// remember keeps what a verified record says.
func (k *known) remember(e apps.Endpoint, s identity.Subject, hubs []identity.ID, now time.Time) {
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

// hubsOf returns the hubs that an endpoint is said to be with.
func (k *known) hubsOf(id identity.ID) []identity.ID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.eps[id].hubs
}

// nameOf returns the last name of an endpoint; "" if none is known.
func (k *known) nameOf(id identity.ID) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.eps[id].Name
}

// labels gives the name of a peer beside its ID, in a sample of a counter. It is empty where none is
// known, which is no label to those who read it.
func (k *known) labels(label, value string) []string {
	if label != "peer" {
		return nil
	}
	return []string{"endpoint", k.nameOf(identity.ID(value))}
}

// endpoint returns what is known of an endpoint, and since when: whether it is online is not.
func (k *known) endpoint(id identity.ID) (e apps.Endpoint, at time.Time, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, ok := k.eps[id]
	kept.Online, kept.Unknown = false, true
	return kept.Endpoint, k.at, ok
}

// asOf returns when the hub answered last; the zero time if it never did.
func (k *known) asOf() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at
}

// until returns when the certificate of an endpoint ends; the zero time if that is not known.
func (k *known) until(id identity.ID) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.eps[id].subject.NotAfter
}

// admitted lists when the endpoints of a user were admitted.
func (k *known) admitted(user string) (out []time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.eps {
		if e.subject.User == user {
			out = append(out, e.subject.Admitted)
		}
	}
	return out
}

// list returns the endpoints that match a filter, by name, and when that was so: whether they are
// online is not known.
// good says whether one is still a member.
func (k *known) list(f apps.Filter, good func(identity.Subject) bool) ([]apps.Endpoint, time.Time) {
	k.mu.Lock()
	out := []apps.Endpoint{}
	for _, e := range k.eps {
		e.Online, e.Unknown = false, true
		if good(e.subject) && matches(e.Endpoint, f) && hasKeyword(e.Endpoint, f.Keyword) {
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

// naming is a log handler that gives the name of a peer beside its ID, where the directory has said
// one.
type naming struct {
	slog.Handler
	known *known
}

func (n naming) Handle(ctx context.Context, rec slog.Record) error {
	var more []slog.Attr
	rec.Attrs(func(a slog.Attr) bool {
		more = n.name(more, a)
		return true
	})
	if len(more) > 0 {
		rec = rec.Clone()
		rec.AddAttrs(more...)
	}
	return n.Handler.Handle(ctx, rec)
}

func (n naming) WithAttrs(attrs []slog.Attr) slog.Handler {
	all := attrs
	for _, a := range attrs {
		all = n.name(slices.Clip(all), a)
	}
	return naming{n.Handler.WithAttrs(all), n.known}
}

func (n naming) WithGroup(name string) slog.Handler {
	return naming{n.Handler.WithGroup(name), n.known}
}

// name adds the name of a peer to some attributes, if a is a peer that has one.
func (n naming) name(attrs []slog.Attr, a slog.Attr) []slog.Attr {
	id, ok := a.Value.Any().(identity.ID)
	if !ok || a.Key != "peer" {
		return attrs
	}
	if name := n.known.nameOf(id); name != "" {
		attrs = append(attrs, slog.String("name", name))
	}
	return attrs
}
