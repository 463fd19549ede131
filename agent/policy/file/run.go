package file

import (
	"fmt"
	"slices"
	"strings"

	decide "ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// Run runs the tests of a file, at a time in Unix seconds, on the policy that it says. It returns what
// does not hold, with its line. Each is decided by what an endpoint decides by.
func (f *File) Run(s *policy.Source, now unixtime.Seconds) (wrong []string) {
	at, cuts := map[string]*decide.Rights{}, s.Cutter()
	rightsAt := func(ep string) *decide.Rights {
		if at[ep] == nil {
			at[ep] = rightsFor(cuts, s.Endpoints[ep].ID)
		}
		return at[ep]
	}
	for _, t := range f.Tests {
		eps := []string{t.At}
		if t.At == policy.Anybody {
			eps = names(s.Endpoints)
		}
		for _, ep := range eps {
			d := t.ask(rightsAt(ep), s, now)
			if d.Allow != t.Can {
				wrong = append(wrong, fmt.Sprintf("line %d: %s", t.Line, t.sentence(ep, d)))
			}
		}
	}
	return wrong
}

// rightsFor are what an endpoint decides by, were a policy in force and nobody evicted.
func rightsFor(cuts *policy.Cutter, id identity.ID) *decide.Rights {
	return decide.Compile(cuts.Slice(&policy.Signed{}, id, nil), func(string, unixtime.Seconds) bool { return false })
}

func (t Test) ask(r *decide.Rights, s *policy.Source, now unixtime.Seconds) decide.Decision {
	peer := apps.Peer{User: t.User, ID: s.Endpoints[t.From].ID}
	if t.When != 0 {
		now = t.When
	}
	app, name, _ := strings.Cut(t.To, "/")
	return r.Decide(peer, app, name, now)
}

// sentence says what is the case in place of what a test says.
func (t Test) sentence(ep string, d decide.Decision) string {
	if d.Allow {
		return fmt.Sprintf("%s can reach %s at %s, by the grant %s", t.User, t.To, ep, d.Grant)
	}
	out := fmt.Sprintf("%s cannot reach %s at %s: %s", t.User, t.To, ep, d.Reason)
	if d.Grant != "" {
		out += " (grant " + d.Grant + ")"
	}
	return out
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
