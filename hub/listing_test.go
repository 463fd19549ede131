package hub

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"ztm/tunnel/identity"
)

// crowded returns a directory of n endpoints, with records as large as those of endpoints that offer some tunnels.
func crowded(b testing.TB, n int) *registry {
	g := &registry{limits: Limits{}.withDefaults(), byID: map[identity.ID]*endpoint{}, byUser: map[string]int{},
		kept: map[string]keptName{}, changed: map[string]struct{}{}, now: time.Now}
	g.limits.EndpointsPerUser = n
	for i := range n {
		id := identity.IDOf([]byte(fmt.Sprint(i)))
		r := &row{Doc: make([]byte, 1100), Subject: identity.Subject{ID: id, User: fmt.Sprint("user-", i%100)},
			Record: identity.Record{ID: id, Name: fmt.Sprintf("endpoint-%05d", i), Time: time.Now().UnixMilli(), Offers: []string{"tunnel/tcp/web", "proxy/exit"}}}
		if _, err := g.put(r); err != nil {
			b.Fatal(err)
		}
	}
	return g
}

func BenchmarkAPageOfTheDirectory(b *testing.B) {
	g := crowded(b, 10_000)
	for _, f := range []filter{{}, {offset: 9800}, {offer: "tunnel/tcp/none"}, {keyword: "nothing"}, {name: "endpoint-05000"}} {
		b.Run(fmt.Sprintf("%+v", f), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				page := g.list(f)
				if _, err := json.Marshal(page); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
