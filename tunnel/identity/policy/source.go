// Package policy has the documents that say who may reach what in a mesh. The whole of it is a
// [Source], which only holders of the CA key have:
//
//	Source -> Check (names, lists, ends) -> Marshal: one form, whose hash the head has
//	Head     signed by the mesh's CA: which source is in force. It names nobody, and goes everywhere
//	Slice    signed by the mesh's CA: what of the source concerns one endpoint
//
// The package knows no file format and no app. What a grant means for one peer at one endpoint is
// decided in package agent/policy.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// Limits of a source.
const (
	MaxSource    = 16 << 20 // bytes of its document
	MaxUsers     = 50_000
	MaxGroups    = 5_000
	MaxEndpoints = 50_000
	MaxGrants    = 50_000
	MaxMembers   = 50_000                    // of one group
	MaxTerms     = 1_000                     // of one list of a grant
	maxTarget    = 600                       // bytes of an entry of Grant.To
	maxMax       = 100 * 365 * 24 * 3600_000 // of Group.Max
	maxVersion   = 1<<53 - 1
)

// Anybody is the term that stands for all: every member of the mesh in who, every endpoint in at
// and from. It is always written out: an empty list is an error and never comes to mean it.
const Anybody = "*"

// The prefixes of the terms that are no plain names.
const (
	GroupPrefix = "group:" // a group of users
	LabelPrefix = "label:" // endpoints that have all of the labels, which "+" joins
)

// ErrSource is what all errors of this package match.
var ErrSource = errors.New("invalid policy")

// Source is the whole policy of a mesh. The zero value is an empty policy: it gives nobody
// anything. A time of zero is none. A Source that others read must not change any longer.
type Source struct {
	Mode      string              `json:"mode,omitempty"`   // what the grants do, see [Enforce]
	Users     map[string]User     `json:"users"`            // known names, invited or not
	Groups    map[string]Group    `json:"groups"`           // by name, without the prefix
	Endpoints map[string]Endpoint `json:"endpoints"`        // by name
	Grants    []Grant             `json:"grants"`           // in no order: each adds to the others
	Direct    string              `json:"direct,omitempty"` // how far devices may go without a hub, see [DirectLAN]
}

// What the grants of a policy do. Groups and labels are good for the rules of endpoints in each mode.
const (
	GroupsOnly = ""        // there are no grants: rules of endpoints decide alone
	Observe    = "observe" // grants decide nothing; endpoints note what they would refuse
	Enforce    = "enforce" // nobody reaches what no grant gives them; rules of endpoints narrow it further
)

// How far all devices of a mesh may go without a hub. A device that goes less far by itself stays
// there. Without a word each device decides.
const (
	DirectLAN = "lan" // they meet in their own networks alone
	DirectOff = "off" // every byte passes a hub
)

// checkDirect returns what is wrong with such a word.
func checkDirect(word string) error {
	if word != "" && word != DirectLAN && word != DirectOff {
		return failf("direct: %q is not lan or off", clip(word))
	}
	return nil
}

// User is a user that the policy knows.
type User struct {
	Until unixtime.Seconds `json:"until,omitempty"` // the user's access and certificates end here
}

// Group is a set of users. One without members is nobody.
type Group struct {
	Members []Member `json:"members"`           // each user once
	Max     int64    `json:"max,omitempty"`     // milliseconds: the longest membership that may be added
	Notify  bool     `json:"notify,omitempty"`  // each use is announced
	Visible string   `json:"visible,omitempty"` // "root": the group is for grants alone, no owner's rule may name it
}

// Longest is how long a membership may last; 0: as long as its end says.
func (g Group) Longest() time.Duration { return time.Duration(g.Max) * time.Millisecond }

// Member is one membership. An eviction of the user at Added or later ends it: whoever is invited
// under the same name afterwards is in no group.
type Member struct {
	User  string           `json:"user"`
	Added unixtime.Seconds `json:"added"`
	Until unixtime.Seconds `json:"until,omitempty"`
}

// Endpoint pins the name of an endpoint to its ID. Only labels that stand here give rights: those of
// the endpoint's own record are for searching.
type Endpoint struct {
	ID     identity.ID `json:"id"`
	Labels []string    `json:"labels,omitempty"`
}

// Grant gives. There is no grant that takes away, so that none changes what another means. Each list
// is "any of", and none is ever empty.
type Grant struct {
	Name  string           `json:"name"`
	Who   []Who            `json:"who"`
	To    []string         `json:"to"`   // an app, "/", and what of it: "tunnel/tcp/ssh"; an app alone is all of it
	At    []string         `json:"at"`   // endpoints, by name or label
	From  []string         `json:"from"` // the endpoint that asks, by name or label
	Until unixtime.Seconds `json:"until,omitempty"`
}

// Who is one term of a grant: a user, "group:" and a group, or [Anybody]. Added is when a user was
// put there, see [Member]; it is zero for the others.
type Who struct {
	Name  string           `json:"name"`
	Added unixtime.Seconds `json:"added,omitempty"`
}

// Marshal returns the one form of a source that was checked. Errors match [ErrSource].
func (s *Source) Marshal() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	doc, err := json.Marshal(s)
	if err == nil && len(doc) > MaxSource {
		err = failf("is larger than %d bytes", MaxSource)
	}
	return doc, err
}

// Parse reads what [Source.Marshal] wrote, and nothing else: what is missing, null, written twice or
// in another way is refused. Errors match [ErrSource].
func Parse(doc []byte) (*Source, error) {
	s, err := Read(doc)
	if err != nil {
		return nil, err
	}
	again, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, doc) {
		return nil, failf("is not in canonical form")
	}
	return s, nil
}

// Read reads a document that a signed head has the sum of: whoever signed it has checked it. Errors match
// [ErrSource].
func Read(doc []byte) (*Source, error) {
	if len(doc) > MaxSource {
		return nil, failf("is larger than %d bytes", MaxSource)
	}
	s := new(Source)
	if err := document.JSON(doc, s); err != nil {
		return nil, failf("%v", err)
	}
	return s, nil
}

// Clone returns a source that can be changed: nothing of it is shared.
func (s *Source) Clone() *Source {
	c := &Source{Mode: s.Mode, Users: maps.Clone(s.Users), Groups: maps.Clone(s.Groups), Endpoints: maps.Clone(s.Endpoints), Grants: slices.Clone(s.Grants), Direct: s.Direct}
	for name, g := range c.Groups {
		g.Members = slices.Clone(g.Members)
		c.Groups[name] = g
	}
	for name, e := range c.Endpoints {
		e.Labels = slices.Clone(e.Labels)
		c.Endpoints[name] = e
	}
	for i, g := range c.Grants {
		c.Grants[i].Who, c.Grants[i].To, c.Grants[i].At, c.Grants[i].From = slices.Clone(g.Who), slices.Clone(g.To), slices.Clone(g.At), slices.Clone(g.From)
	}
	return c
}

// Check returns what is wrong with a source, by name: the first thing found, in a fixed order. It
// does not know which users and endpoints there are in the mesh. Errors match [ErrSource].
func (s *Source) Check() error {
	for _, n := range []struct {
		what      string
		have, may int
	}{{"users", len(s.Users), MaxUsers}, {"groups", len(s.Groups), MaxGroups},
		{"endpoints", len(s.Endpoints), MaxEndpoints}, {"grants", len(s.Grants), MaxGrants}} {
		if n.have > n.may {
			return failf("has %d %s, at most %d are possible", n.have, n.what, n.may)
		}
	}
	if s.Users == nil || s.Groups == nil || s.Endpoints == nil || s.Grants == nil {
		return failf("users, groups, endpoints or grants are missing: one that is empty is written as such")
	}
	if s.Mode != Observe && s.Mode != Enforce && (s.Mode != GroupsOnly || len(s.Grants) > 0) {
		return failf("the mode %q is not observe or enforce: grants need one", clip(s.Mode))
	}
	if err := checkDirect(s.Direct); err != nil {
		return err
	}
	for _, check := range []func() error{s.checkUsers, s.checkGroups, s.checkEndpoints, s.checkGrants} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckAdded returns what is wrong with the names that a source adds to another: two users or two groups
// whose names differ in case alone, which people take for one. Two that the other has may stay, so that
// such a policy can be read and mended. Errors match [ErrSource].
func (s *Source) CheckAdded(to *Source) error {
	if err := checkCase("users", s.Named(), to.Named()); err != nil {
		return err
	}
	return checkCase("groups", s.Groups, to.Groups)
}

// Named returns all users that the policy names: those of grants are in Users.
func (s *Source) Named() map[string]struct{} {
	out := make(map[string]struct{}, len(s.Users))
	for name := range s.Users {
		out[name] = struct{}{}
	}
	for _, g := range s.Groups {
		for _, m := range g.Members {
			out[m.User] = struct{}{}
		}
	}
	return out
}

func checkCase[V any](what string, all, old map[string]V) error {
	seen := make(map[string]string, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		low := strings.ToLower(name)
		if other, twice := seen[low]; twice && !(has(old, other) && has(old, name)) {
			return failf("%s: %q and %q differ in case alone", what, clip(other), clip(name))
		}
		seen[low] = name
	}
	return nil
}

func has[V any](m map[string]V, name string) bool {
	_, ok := m[name]
	return ok
}

func (s *Source) checkUsers() error {
	return each(s.Users, func(name string, u User) error {
		if err := identity.CheckName(name); err != nil {
			return failf("user: %v", err)
		}
		return checkTime("user "+name, u.Until)
	})
}

func (s *Source) checkGroups() error {
	return each(s.Groups, func(name string, g Group) error {
		switch {
		case identity.CheckName(name) != nil:
			return failf("group: %v", identity.CheckName(name))
		case g.Members == nil:
			return failf("group %s: members are missing: write [] for nobody", name)
		case len(g.Members) > MaxMembers:
			return failf("group %s has %d members, at most %d are possible", name, len(g.Members), MaxMembers)
		case g.Max < 0 || g.Max > maxMax:
			return failf("group %s: max is out of range", name)
		case g.Visible != "" && g.Visible != "root":
			return failf("group %s: visible is %q, want root or nothing", name, clip(g.Visible))
		}
		return g.checkMembers(name)
	})
}

func (g Group) checkMembers(name string) error {
	seen := make(map[string]struct{}, len(g.Members))
	for _, m := range g.Members {
		if err := identity.CheckName(m.User); err != nil {
			return failf("group %s: member: %v", name, err)
		}
		if _, twice := seen[m.User]; twice {
			return failf("group %s has %s twice", name, m.User)
		}
		seen[m.User] = struct{}{}
		if m.Added <= 0 || m.Added > unixtime.MaxSeconds {
			return failf("group %s: %s: it is not said when they were added", name, m.User)
		}
		if err := checkTime("group "+name+": "+m.User, m.Until); err != nil {
			return err
		}
		if g.Max > 0 && (m.Until == 0 || m.Until.Time().Sub(m.Added.Time()) > g.Longest()) {
			return failf("group %s: %s: a membership lasts %v at most, and needs an end", name, m.User, g.Longest())
		}
	}
	return nil
}

func (s *Source) checkEndpoints() error {
	names := make(map[identity.ID]string, len(s.Endpoints))
	return each(s.Endpoints, func(name string, e Endpoint) error {
		if err := identity.CheckName(name); err != nil {
			return failf("endpoint: %v", err)
		}
		if _, err := identity.ParseID(string(e.ID)); err != nil {
			return failf("endpoint %s: %v", name, err)
		}
		if other := names[e.ID]; other != "" {
			return failf("endpoints %s and %s have one ID", other, name)
		}
		names[e.ID] = name
		for _, l := range e.Labels {
			if !isLabel(l) {
				return failf("endpoint %s: label %q may hold letters, digits and ._=- only", name, clip(l))
			}
		}
		return nil
	})
}

func (s *Source) checkGrants() error {
	names := make(map[string]struct{}, len(s.Grants))
	for i := range s.Grants {
		g := &s.Grants[i]
		if err := identity.CheckName(g.Name); err != nil {
			return failf("grant %d: %v", i, err)
		}
		if _, twice := names[g.Name]; twice {
			return failf("two grants are named %s", g.Name)
		}
		names[g.Name] = struct{}{}
		if err := s.checkGrant(g); err != nil {
			return fmt.Errorf("grant %s: %w", g.Name, err)
		}
	}
	return nil
}

func (s *Source) checkGrant(g *Grant) error {
	for _, list := range []struct {
		name string
		n    int
	}{{"who", len(g.Who)}, {"to", len(g.To)}, {"at", len(g.At)}, {"from", len(g.From)}} {
		if list.n == 0 || list.n > MaxTerms {
			return failf("%s has %d terms, want 1 to %d: '*' means all", list.name, list.n, MaxTerms)
		}
	}
	for _, w := range g.Who {
		if err := s.checkWho(w); err != nil {
			return err
		}
	}
	for _, t := range g.To {
		if app, _, _ := strings.Cut(t, "/"); identity.CheckName(app) != nil || len(t) > maxTarget || !identity.Printable(t, 1, maxTarget) {
			return failf("to: %q does not begin with an app", clip(t))
		}
	}
	for _, t := range slices.Concat(g.At, g.From) {
		if err := s.checkPlace(t); err != nil {
			return err
		}
	}
	return checkTime("until", g.Until)
}

// checkWho refuses a name that the policy does not know: it would match nobody, in silence.
func (s *Source) checkWho(w Who) error {
	group, isGroup := strings.CutPrefix(w.Name, GroupPrefix)
	switch {
	case isGroup || w.Name == Anybody:
		if _, known := s.Groups[group]; isGroup && !known {
			return failf("who: there is no group %q", clip(group))
		}
		if w.Added != 0 {
			return failf("who: %s was added at no time: only users are", clip(w.Name))
		}
		return nil
	case identity.CheckName(w.Name) != nil:
		return failf("who: %v", identity.CheckName(w.Name))
	case w.Added <= 0 || w.Added > unixtime.MaxSeconds:
		return failf("who: %s: it is not said when they were added", w.Name)
	}
	if _, known := s.Users[w.Name]; !known {
		return failf("who: there is no user %q", w.Name)
	}
	return nil
}

// checkPlace checks a term of at or from.
func (s *Source) checkPlace(t string) error {
	if strings.HasPrefix(t, LabelPrefix) {
		return CheckLabels(t)
	}
	if _, known := s.Endpoints[t]; !known && t != Anybody {
		return failf("there is no endpoint %q", clip(t))
	}
	return nil
}

// CheckLabels checks the form of a term of labels, with its prefix. Errors match [ErrSource].
func CheckLabels(term string) error {
	for l := range strings.SplitSeq(strings.TrimPrefix(term, LabelPrefix), "+") {
		if !isLabel(l) {
			return failf("label %q may hold letters, digits and ._=- only", clip(l))
		}
	}
	return nil
}

// maxLabel is the longest label that gives rights, in bytes.
const maxLabel = 63

func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && !strings.ContainsRune("._=-", c)
	})
}

func checkTime(what string, t unixtime.Seconds) error {
	if t < 0 || t > unixtime.MaxSeconds {
		return failf("%s: the time %d is out of range", what, t)
	}
	return nil
}

// each calls check for all of a map, sorted by name, so that the first error is always the same.
func each[V any](m map[string]V, check func(string, V) error) error {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := check(name, m[name]); err != nil {
			return err
		}
	}
	return nil
}

// clip is a word of others for a message.
func clip(s string) string { return s[:min(len(s), maxLabel)] }

func failf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSource, fmt.Sprintf(format, args...))
}
