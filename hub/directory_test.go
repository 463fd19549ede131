package hub

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/tuning"
)

func TestTheDirectoryListsWhatEndpointsSignedSortedByName(t *testing.T) {
	h := start(t)
	c := h.device("carol").online("c")
	h.device("alice").online("a", func(r *identity.Record) {
		r.Labels, r.Offers = []string{"home", "linux"}, []string{"tunnel/tcp/web", "tunnel/tcp/ssh"}
	})
	b := h.device("bob").online("b", func(r *identity.Record) { r.Offers = []string{"tunnel/tcp/web"} })
	b.Session.Close()
	wait(t, "the stream of b has ended", b.ended)
	offline := func() bool {
		var e tunnel.Entry
		err := c.Call(t.Context(), "GET", tunnel.PathEndpoints+"/"+string(b.id), nil, nil, &e)
		return err == nil && !e.Online
	}
	eventually(t, "b is offline", offline)

	cases := []struct {
		name  string
		query url.Values
		want  []string
		more  bool
	}{
		{"all", nil, []string{"a", "b", "c"}, false},
		{"name", url.Values{"name": {"b"}}, []string{"b"}, false},
		{"unknown name", url.Values{"name": {"bb"}}, []string{}, false},
		{"user", url.Values{"user": {"alice"}}, []string{"a"}, false},
		{"offer", url.Values{"offer": {"tunnel/tcp/web"}}, []string{"a", "b"}, false},
		{"part of an offer", url.Values{"offer": {"tunnel/tcp"}}, []string{}, false},
		{"offer of those online", url.Values{"offer": {"tunnel/tcp/web"}, "online": {"true"}}, []string{"a"}, false},
		{"keyword in a label", url.Values{"keyword": {"lin"}}, []string{"a"}, false},
		{"keyword in a name", url.Values{"keyword": {"c"}}, []string{"c"}, false},
		{"first page", url.Values{"limit": {"2"}}, []string{"a", "b"}, true},
		{"second page", url.Values{"limit": {"2"}, "offset": {"2"}}, []string{"c"}, false},
		{"past the end", url.Values{"offset": {"3"}}, []string{}, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var page tunnel.Page
			if err := c.Call(t.Context(), "GET", tunnel.PathEndpoints, tc.query, nil, &page); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, recordNames(t, page)); diff != "" || page.More != tc.more {
				t.Errorf("more %v (-want +got):\n%s", page.More, diff)
			}
			for _, e := range page.Entries {
				if _, _, err := c.verifier.Record(e.Record); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, bad := range []url.Values{{"limit": {"-1"}}, {"offset": {"x"}}, {"online": {"perhaps"}}} {
		wantRefusal(t, c.Call(t.Context(), "GET", tunnel.PathEndpoints, bad, nil, nil), 400, "want")
	}
}

func TestAPageStaysBelowTheLimitOfAnAnswer(t *testing.T) {
	h := start(t)
	large := func(r *identity.Record) {
		for i := range 90 {
			r.Offers = append(r.Offers, fmt.Sprintf("tunnel/tcp/%0*d", 110, i))
		}
	}
	var s *tunnel.Session
	const many = 60
	for i := range many {
		d := h.device("bob")
		s = d.session()
		if err := d.put(s, d.record(fmt.Sprintf("ep-%03d", i), large)); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for more := true; more; {
		var raw []byte
		var page tunnel.Page
		query := url.Values{"offset": {fmt.Sprint(seen)}}
		if err := s.Call(t.Context(), "GET", tunnel.PathEndpoints, query, nil, &raw); err != nil {
			t.Fatal(err)
		}
		if len(raw) > tunnel.MaxBody {
			t.Fatalf("a page has %d bytes", len(raw))
		}
		if err := s.Call(t.Context(), "GET", tunnel.PathEndpoints, query, nil, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Entries) == 0 {
			t.Fatal("an empty page says that there is more")
		}
		seen, more = seen+len(page.Entries), page.More
	}
	if seen != many {
		t.Errorf("the pages have %d endpoints, want %d", seen, many)
	}
}

func TestANameBelongsToOneEndpoint(t *testing.T) {
	h := start(t)
	first := h.deviceAt("bob", time.Now().Add(-time.Hour), time.Now()).online("web")
	second := h.device("bob") // another user waits for 30 days
	s := second.session()
	err := second.put(s, second.record("web"))
	wantRefusal(t, err, 409, "endpoint name web is taken by endpoint "+string(first.id)+" of user bob (online now)")

	// Being offline gives it to another endpoint of the user, and to nobody else; so does leaving.
	first.Session.Close()
	eve := h.device("eve")
	eventually(t, "the holder is offline", func() bool {
		return strings.Contains(fmt.Sprint(eve.put(eve.session(), eve.record("web"))), "last seen")
	})
	if err := second.put(s, second.record("web")); err != nil {
		t.Fatal(err)
	}
	// A new name frees the old one.
	if err := second.put(s, second.record("www")); err != nil {
		t.Fatal(err)
	}
	if err := first.put(first.device.session(), first.record("web")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web", "www"}, names(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNobodyWritesTheRecordOfAnother(t *testing.T) {
	h := start(t)
	bob := h.device("bob").online("bob-ep")
	eve := h.device("eve")
	s := eve.session()
	path := func(id identity.ID) string { return tunnel.PathEndpoints + "/" + string(id) }
	mine := eve.record("eve-ep")
	forged := eve.record("eve-ep", func(r *identity.Record) { r.Certificate = bob.cert.Certificate[0] })
	cases := []struct {
		name   string
		method string
		id     identity.ID
		body   []byte
		status int
		part   string
	}{
		{"own record under another's ID", "PUT", bob.id, mine, 403, "cannot write"},
		{"another's record under own ID", "PUT", eve.id, bob.record("bob-ep"), 403, "comes from"},
		{"another's certificate in it", "PUT", eve.id, forged, 400, "endpoint record"},
		{"altered after signing", "PUT", eve.id, []byte(strings.Replace(string(mine), "eve-ep", "root-p", 1)), 400, "not signed"},
		{"no record", "PUT", eve.id, []byte("{}"), 400, "endpoint record"},
		{"too large", "PUT", eve.id, make([]byte, identity.MaxRecord+1), 400, "more than"},
		{"no ID", "PUT", "me", mine, 400, "not an ID"},
		{"removing another's", "DELETE", bob.id, nil, 403, "only user root"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			wantRefusal(t, s.Call(t.Context(), c.method, path(c.id), nil, c.body, nil), c.status, c.part)
		})
	}
	if diff := cmp.Diff([]string{"bob-ep"}, names(t, s)); diff != "" {
		t.Errorf("the directory changed (-want +got):\n%s", diff)
	}
	root := h.device("root").session()
	if err := root.Call(t.Context(), "DELETE", path(bob.id), nil, nil, nil); err != nil {
		t.Fatalf("root may not tidy up: %v", err)
	}
	wait(t, "the stream of a removed endpoint ends", bob.ended)
}

func TestARecordDoesNotGoBackInTime(t *testing.T) {
	h := start(t)
	bob := h.device("bob")
	s := bob.session()
	old := bob.record("old")
	if err := bob.put(s, bob.record("new")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, bob.put(s, old), 409, "older")
	if diff := cmp.Diff([]string{"new"}, names(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A peer is who its certificate says, not who it says.
func TestIdentityComesFromTheCertificateAlone(t *testing.T) {
	h := start(t)
	bob := h.device("bob").online("bob-ep")
	eve := h.device("eve")
	c, err := tls13(eve)
	if err != nil {
		t.Fatal(err)
	}
	cc := h2.Client(c, tuning.Control(0))
	defer cc.Close()
	url := "http://" + h.address() + tunnel.PathEndpoints + "/" + string(bob.id) + "?user=root&id=" + string(bob.id)
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"X-Forwarded-User", "X-Forwarded-For", "X-Client-Cert", "X-Ssl-Client-Cert", "Ztm-User", "Ztm-Peer", "User",
		"Username", "Id", "Authorization", "Forwarded", "X-Real-Ip", "Ssl-Client-Subject-Dn",
	} {
		req.Header.Set(name, "root")
	}
	resp, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
	if diff := cmp.Diff([]string{"bob-ep"}, names(t, bob.Session)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnknownRequestsAreRefusedInWords(t *testing.T) {
	h := start(t)
	s := h.device("bob").session()
	cases := []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 404}, {"GET", "/v1", 404}, {"GET", "/v1/hub/", 404}, {"GET", "/v1/nothing", 404},
		{"GET", "//v1/hub", 404}, {"GET", "/v1/../v1/hub", 404}, {"GET", "/metrics", 404}, {"GET", "/debug/pprof/", 404},
		{"POST", tunnel.PathHub, 400}, {"DELETE", tunnel.PathEndpoints, 400}, {"PATCH", tunnel.PathTrust, 400},
		{"GET", tunnel.PathSign + "/x", 400}, {"POST", "/v1/join", 404},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			err := s.Call(t.Context(), c.method, c.path, nil, nil, nil)
			wantRefusal(t, err, c.status, "")
		})
	}
}

func TestLimitsOfTheDirectory(t *testing.T) {
	h := start(t, func(c *Config) { c.Limits = Limits{Agents: 3, EndpointsPerUser: 2} })
	put := func(user, name string) error {
		d := h.device(user)
		return d.put(d.session(), d.record(name))
	}
	for i := range 2 {
		if err := put("bob", fmt.Sprintf("bob-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	wantRefusal(t, put("bob", "bob-2"), 429, "user bob has 2 endpoints")
	if err := put("alice", "alice-0"); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, put("carol", "carol-0"), 429, "it has 3 endpoints")
}

func TestChangesOfOneEndpointAreLimited(t *testing.T) {
	h := start(t, func(c *Config) { c.changeRate = limit.Rate{Burst: 2} })
	bob := h.device("bob")
	s := bob.session()
	for i := range 2 {
		if err := bob.put(s, bob.record(fmt.Sprint("b", i))); err != nil {
			t.Fatal(err)
		}
	}
	wantRefusal(t, bob.put(s, bob.record("b2")), 429, "changes its record too often")
	alice := h.device("alice")
	if err := alice.put(alice.session(), alice.record("a")); err != nil {
		t.Errorf("another endpoint: %v", err)
	}
}

// Flash wears out: coming back is no reason to write.
func TestARecordThatSaysNothingNewIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir)
	bob := h.device("bob")
	if err := bob.put(bob.session(), bob.record("ep")); err != nil {
		t.Fatal(err)
	}
	h.stop()
	before := read(t, dir, "hub.db")
	h2 := startIn(t, dir)
	bob.hub = h2
	s := bob.session()
	for range 3 {
		if err := bob.put(s, bob.record("ep")); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"ep"}, names(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h2.stop()
	if string(before) != string(read(t, dir, "hub.db")) {
		t.Error("the database was written")
	}
}

func TestTheDirectoryIsKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir)
	bob, carol := h.device("bob"), h.device("carol")
	for name, d := range map[string]*device{"b": bob, "c": carol} {
		if err := d.put(d.session(), d.record(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := bob.session().Call(t.Context(), "DELETE", tunnel.PathEndpoints+"/"+string(bob.id), nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	h.stop()
	h2 := startIn(t, dir)
	if h2.started.ID != h.started.ID || h2.started.Mesh != h.started.Mesh || h2.started.Permit != "" {
		t.Errorf("started as %+v, was %+v", h2.started, h.started)
	}
	carol.hub = h2
	if diff := cmp.Diff([]string{"c"}, names(t, carol.session())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A kill leaves no less than a shutdown: what was answered is on disk.
	copied := t.TempDir()
	dave := h2.device("dave")
	if err := dave.put(dave.session(), dave.record("d")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hub.db", "root.json"} {
		if err := os.WriteFile(filepath.Join(copied, name), read(t, dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h3 := startIn(t, copied)
	carol.hub = h3
	if diff := cmp.Diff([]string{"c", "d"}, names(t, carol.session())); diff != "" {
		t.Errorf("after a kill (-want +got):\n%s", diff)
	}
}
