package policy

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// gives reports whether a grant of a slice gives a peer something: one loop over all grants, and
// nothing is compiled.
func gives(s *policy.Slice, p apps.Peer, app, name string, now unixtime.Seconds) bool {
	over := func(until unixtime.Seconds) bool { return until != 0 && now >= until }
	if p.User == "" || over(s.Ends.Of(p.User)) {
		return false
	}
	means := func(w policy.Who) bool {
		group, isGroup := strings.CutPrefix(w.Name, "group:")
		member := func(m policy.Member) bool { return m.User == p.User && !over(m.Until) }
		return w.Name == "*" || w.Name == p.User || isGroup && slices.ContainsFunc(s.Groups[group].Members, member)
	}
	from := func(term string) bool { return term == "*" || slices.Contains(s.Places[term], p.ID) }
	return slices.ContainsFunc(s.Grants, func(g policy.Given) bool {
		return !over(g.Until) && slices.ContainsFunc(g.Who, means) && slices.ContainsFunc(g.From, from) &&
			slices.ContainsFunc(g.To, func(to string) bool { return includes(to, app, name) })
	})
}

// includes reports whether an entry of a grant's list of targets has a target in it.
func includes(to, app, name string) bool {
	of, what, _ := strings.Cut(to, "/")
	if of != app {
		return false
	}
	if name == "" || what == "" || what == "*" || what == name {
		return true
	}
	address, isForward := strings.CutPrefix(what, "forward/")
	if of == "proxy" || isForward {
		pattern, err := reach.ParsePattern(address)
		dest, wrong := reach.ParseDest(strings.TrimPrefix(name, "forward/"))
		if err == nil && wrong == nil && pattern.Match(dest) {
			return true
		}
	}
	below, isAll := strings.CutSuffix(what, "*")
	return isAll && strings.HasSuffix(below, "/") && strings.HasPrefix(name, below)
}

// parts are slices of which a part is missing, empty or null: none of them may stop an endpoint.
var parts = []string{`{}`, `{"mode":"enforce","groups":null,"places":null,"grants":null}`,
	`{"grants":[{}]}`, `{"grants":[{"who":[],"to":[],"from":[]}]}`, `{"grants":[{"who":[{}],"to":[""],"from":[""]}]}`,
	`{"grants":[{"name":"g","who":[{"name":"ann","added":1}],"to":["tunnel/tcp/db"]}]}`,
	`{"grants":[{"name":"g","who":[{"name":"group:none"}],"to":["tunnel"],"from":["label:none"]}]}`,
	`{"grants":[{"name":"g","who":[{"name":"group:g"}],"to":["proxy/"],"from":["*"]}],"groups":{"g":{}}}`,
	`{"places":{"label:x":null},"grants":[{"name":"g","who":[{"name":"*"}],"to":["tunnel/*"],"from":["label:x"]}]}`}

func FuzzDecide(f *testing.F) {
	for _, doc := range parts {
		f.Add([]byte(doc), "ann", string(idOf(1)), "tunnel", "tcp/db", int64(1))
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 4))
		doc, err := json.Marshal(someSource(r).Slice(&policy.Signed{}, idOf(r.IntN(4)), []string{"group:g1", "label:x"}))
		if err != nil {
			f.Fatal(err)
		}
		p, q := somebody(r), pick(r, asked)
		f.Add(doc, p.User, string(p.ID), q[0], q[1], r.Int64N(110))
	}
	f.Fuzz(func(t *testing.T, doc []byte, user, id, app, name string, seconds int64) {
		now := unixtime.Seconds(seconds)
		s := new(policy.Slice)
		if json.Unmarshal(doc, s) != nil {
			return
		}
		s.Mode, s.Ends = policy.Enforce, s.Ends[:len(s.Ends)/13*13] // of another length it is no slice, see OpenSlice
		p := apps.Peer{User: user, ID: identity.ID(id)}
		r := Compile(s, nothing)
		if d := r.Decide(p, app, name, now); d.Allow && !gives(s, p, app, name, now) {
			t.Errorf("no grant gives %q to %+v: %+v", app+"/"+name, p, d)
		}
		if d := r.Stale().Decide(p, app, name, now); d.Allow {
			t.Errorf("%q is given by what is not to be used any more", app+"/"+name)
		}
		for _, who := range []string{"group:" + name, "label:" + name, apps.ByPolicy} {
			r.Names(p, []string{who}, now)
		}
		r.Next(now)
		r.Users()
	})
}
