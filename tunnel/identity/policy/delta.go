package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Delta is what was changed from one source to the next, piece by piece: it can be made once more on
// a source that others have changed meanwhile. A piece is a user, a group without its members, a
// member, an endpoint, a grant, or one of the words that stand for all.
type Delta []Piece

// Piece is one change. Was and Now are JSON; "" is not there.
type Piece struct {
	Key string `json:"key"` // its kind, and after a slash its name; of a member the group's name and the user
	Was string `json:"was"`
	Now string `json:"now"`
}

// The kinds of pieces. In this order they can be made.
const (
	pieceDirect   = "direct"
	pieceEndpoint = "endpoint"
	pieceGrant    = "grant"
	pieceGroup    = "group"
	pieceMember   = "member"
	pieceMode     = "mode"
	pieceUser     = "user"
)

// DeltaOf returns what was changed from old to next, sorted by key.
func DeltaOf(old, next *Source) (Delta, error) {
	was, err := old.pieces()
	if err != nil {
		return nil, err
	}
	now, err := next.pieces()
	if err != nil {
		return nil, err
	}
	keys := maps.Clone(was)
	maps.Copy(keys, now)
	var d Delta
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if was[key] != now[key] {
			d = append(d, Piece{key, was[key], now[key]})
		}
	}
	return d, nil
}

// pieces returns all pieces of a source by key.
func (s *Source) pieces() (map[string]string, error) {
	all := map[string]any{pieceMode: s.Mode, pieceDirect: s.Direct}
	for name, u := range s.Users {
		all[pieceUser+"/"+name] = u
	}
	for name, g := range s.Groups {
		for _, m := range g.Members {
			all[pieceMember+"/"+name+"/"+m.User] = m
		}
		g.Members = nil
		all[pieceGroup+"/"+name] = g
	}
	for name, e := range s.Endpoints {
		all[pieceEndpoint+"/"+name] = e
	}
	for _, g := range s.Grants {
		all[pieceGrant+"/"+g.Name] = g
	}
	out := make(map[string]string, len(all))
	for key, v := range all {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out[key] = string(b)
	}
	return out, nil
}

// On makes the changes on a source. What is there already is left as it is. Errors match [ErrSource]
// where somebody else has changed the same piece; the source is not to be used then.
func (d Delta) On(s *Source) error {
	have, err := s.pieces()
	if err != nil {
		return err
	}
	for _, p := range d {
		if have[p.Key] == p.Now {
			continue
		}
		if have[p.Key] != p.Was {
			return failf("%s was changed by another meanwhile", clip(p.Key))
		}
		if err := s.set(p); err != nil {
			return failf("%s: %v", clip(p.Key), err)
		}
	}
	return nil
}

// set makes one change.
func (s *Source) set(p Piece) error {
	kind, name, _ := strings.Cut(p.Key, "/")
	now := []byte(p.Now)
	switch kind {
	case pieceDirect:
		return json.Unmarshal(now, &s.Direct)
	case pieceMode:
		return json.Unmarshal(now, &s.Mode)
	case pieceUser:
		return setIn(s.Users, name, now)
	case pieceEndpoint:
		return setIn(s.Endpoints, name, now)
	case pieceGroup:
		members := s.Groups[name].Members
		err := setIn(s.Groups, name, now)
		if g, there := s.Groups[name]; there {
			g.Members = slices.Concat([]Member{}, members)
			s.Groups[name] = g
		}
		return err
	case pieceMember:
		group, user, _ := strings.Cut(name, "/")
		g, there := s.Groups[group]
		if !there {
			return nil // the group is gone, and nobody is in it
		}
		err := setOf(&g.Members, now, func(m Member) bool { return m.User == user })
		s.Groups[group] = g
		return err
	case pieceGrant:
		return setOf(&s.Grants, now, func(g Grant) bool { return g.Name == name })
	}
	return failf("a piece of no kind")
}

// setIn sets or deletes an entry of a map.
func setIn[V any](all map[string]V, name string, now []byte) error {
	delete(all, name)
	if len(now) == 0 {
		return nil
	}
	var v V
	err := json.Unmarshal(now, &v)
	all[name] = v
	return err
}

// setOf sets or deletes an entry of a list.
func setOf[V any](all *[]V, now []byte, same func(V) bool) error {
	*all = slices.DeleteFunc(*all, same)
	if len(now) == 0 {
		return nil
	}
	var v V
	err := json.Unmarshal(now, &v)
	*all = append(*all, v)
	return err
}
