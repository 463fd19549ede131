package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"ztm/agent/api"
	"ztm/agent/audit"
	"ztm/apps"
)

// refusal is what an endpoint would refuse if grants were enforced.
type refusal struct {
	User   string `json:"user"`
	App    string `json:"app"`
	Target string `json:"target"`
	Count  int    `json:"count"` // flows
	Last   string `json:"last"`  // RFC 3339
}

// report prints what the chosen endpoint has let in that no grant gives, as its audit log has it.
func (c commands) report(ctx context.Context) error {
	ep, err := c.Endpoint(ctx)
	if err != nil {
		return err
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	var lines []audit.Line
	if err := c.Do(ctx, http.MethodGet, api.EndpointPath(m.Name, ep.ID, "audit"), nil, &lines); err != nil {
		return err
	}
	all := refusals(lines)
	t := &apps.Table{Header: []string{"USER", "APP", "TARGET", "FLOWS", "LAST"}}
	for _, r := range all {
		t.Add(r.User, r.App, r.Target, fmt.Sprint(r.Count), r.Last)
	}
	if len(all) == 0 {
		t.Header = nil
		t.Add("nothing that was let in here would be refused")
	}
	if len(lines) > 0 {
		c.Note("by %d lines of the audit log of %s, the first of %s", len(lines), ep.Name, lines[0].Time)
	}
	return c.Print(all, t)
}

// refusals counts the flows of some lines, by user and target, sorted. A flow has one line at its end;
// those of its beginning and on its way are not counted, however many were merged.
func refusals(lines []audit.Line) []refusal {
	type key struct{ user, app, target string }
	seen := map[key]*refusal{}
	for _, l := range lines {
		if l.Reason != audit.WouldRefuse || l.Event != audit.Flow && l.Of != audit.Flow {
			continue
		}
		k := key{l.User, l.App, l.Target}
		if seen[k] == nil {
			seen[k] = &refusal{User: l.User, App: l.App, Target: l.Target}
		}
		seen[k].Count += max(1, l.Count)
		seen[k].Last = l.Time
	}
	out := make([]refusal, 0, len(seen))
	for _, r := range seen {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b refusal) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.App, b.App), cmp.Compare(a.Target, b.Target))
	})
	return out
}
