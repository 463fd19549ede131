package directory

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"ztm/store"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

var plenty = Limits{Endpoints: 100_000, OfUser: 100_000, PageBytes: 512 << 10, NameKept: time.Hour, NamesOfUser: 10}

// crowded returns a directory of n endpoints, with records as large as those of endpoints that
// offer some tunnels.
func crowded(b testing.TB, n int) *Local {
	db, err := store.OpenRAM(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	d, err := Open(db, plenty, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		id := identity.IDOf([]byte(fmt.Sprint(i)))
		r := &row{Doc: make([]byte, 1100), Subject: identity.Subject{ID: id, User: fmt.Sprint("user-", i%100)},
			Record: identity.Record{ID: id, Name: fmt.Sprintf("endpoint-%05d", i), Time: unixtime.MillisOf(time.Now()), Offers: []string{"tunnel/tcp/web", "proxy/exit"}}}
		if _, err := d.put(r); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

func BenchmarkAPage(b *testing.B) {
	d := crowded(b, 10_000)
	for _, f := range []Filter{{}, {Offset: 9800}, {Offer: "tunnel/tcp/none"}, {Keyword: "nothing"}, {Name: "endpoint-05000"}} {
		b.Run(fmt.Sprintf("%+v", f), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				page := d.List(f)
				if _, err := json.Marshal(page); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestNamesThatAreKeptAreLimited(t *testing.T) {
	d := crowded(t, 0)
	most := d.limits.NamesOfUser
	for i := range 3 * most {
		user := "eve"
		if i == 0 {
			user = "bob"
		}
		d.keepLocked(&row{Subject: identity.Subject{User: user}, Record: identity.Record{Name: fmt.Sprint("name-", i)}})
	}
	if n := d.keptBy["eve"]; n != most || len(d.kept) != most+1 {
		t.Errorf("%d names are kept for one user and %d in all, want %d and one more", n, len(d.kept), most)
	}
	if d.keptForLocked("name-0") != "bob" {
		t.Error("many names of one user push out those of another")
	}
	d.limits.Endpoints = len(d.kept)
	d.keepLocked(&row{Subject: identity.Subject{User: "carol"}, Record: identity.Record{Name: "one-more"}})
	if d.keptForLocked("one-more") != "" {
		t.Error("more names are kept than there may be endpoints")
	}
	d.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	d.keepLocked(&row{Subject: identity.Subject{User: "carol"}, Record: identity.Record{Name: "later"}})
	if d.keptForLocked("later") != "carol" || len(d.kept) != 1 {
		t.Error("names whose time is over take the place of others")
	}
}
