package notice

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/audit"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// place is a mesh as a test has it.
type place struct {
	eps     []apps.Endpoint
	ends    time.Time
	evicted []identity.Eviction
}

func newTeller(p *place) *Teller {
	return New(Config{
		Log: slog.New(slog.DiscardHandler), Mesh: "demo", Now: time.Now, Self: func() apps.Endpoint { return apps.Endpoint{Name: "me"} },
		Endpoints: func(context.Context) ([]apps.Endpoint, error) { return slices.Clone(p.eps), nil },
		Target:    func(app, path string) bool { return app == "tunnel" && strings.HasPrefix(path, "tcp/") },
		Ends:      func() time.Time { return p.ends }, Evictions: func() []identity.Eviction { return slices.Clone(p.evicted) },
	})
}

// queued takes what is to be told.
func (t *Teller) queued() (out []string) {
	for {
		select {
		case n := <-t.queue:
			out = append(out, string(n.Kind)+" "+n.About)
		default:
			return out
		}
	}
}

func TestWhatHappensIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nas, box := apps.Endpoint{ID: "nas", Name: "nas", Online: true}, apps.Endpoint{ID: "box", Name: "box"}
		p := &place{eps: []apps.Endpoint{nas, box}, ends: time.Now().Add(30 * 24 * time.Hour), evicted: []identity.Eviction{{User: "old"}}}
		n := newTeller(p)
		want := func(when string, lines ...string) {
			t.Helper()
			n.look(t.Context())
			if got := n.queued(); !slices.Equal(got, lines) {
				t.Errorf("%s: %q, want %q", when, got, lines)
			}
		}
		want("nobody listens")
		n.Use(Settings{Command: []string{"/bin/true"}})
		want("what was there before is no news")
		p.eps[0].Online, p.eps[1].Online = false, true
		p.evicted = append(p.evicted, identity.Eviction{User: "eve", Reason: "lost phone"}, identity.Eviction{User: "gil"}, identity.Eviction{ID: "x", Name: "tv", Owner: "ann"})
		want("things change", "evicted eve", "evicted gil", "evicted tv", "endpoint-down nas", "endpoint-up box")
		want("nothing changes")
		p.eps[0].Online = true
		want("it comes back", "endpoint-up nas")
		p.eps[0].Online = false
		want("it flaps")
		<-time.After(again)
		p.eps[0].Online = true
		want("it comes back much later", "endpoint-up nas")
		for range burst {
			n.Seen(audit.Line{Event: audit.Refused, Reason: audit.Denied, User: "mallory"})
			n.Seen(audit.Line{Event: audit.Refused, Reason: audit.Unavailable, User: "ann"})
			n.Seen(audit.Line{Event: audit.Flow, User: "bob"})
		}
		want("a user is refused again and again", "refused mallory")
		for i := range 10 * maxKnown {
			n.Seen(audit.Line{Event: audit.Refused, Reason: audit.Denied, User: fmt.Sprint(i)})
		}
		if len(n.refused) > maxKnown {
			t.Errorf("%d users are remembered", len(n.refused))
		}
		want("many are refused once")
		db := audit.Line{Event: audit.Refused, Result: audit.No, Reason: audit.Unavailable, User: "bob", App: "tunnel", Target: "tcp/db"}
		forward := db
		forward.Target = "forward/tcp/10.0.0.1:1"
		n.Seen(forward)
		n.Seen(db)
		n.Seen(db)
		want("a target cannot be reached", "target-down tunnel tcp/db")
		db.Event, db.Result, db.Reason = audit.Flow, audit.OK, ""
		n.Seen(db)
		n.Seen(db)
		want("it is reached again", "target-up tunnel tcp/db")
		p.ends = time.Time{}
		want("the certificate ends with the access of its user")
		p.ends = time.Now().Add(24 * time.Hour)
		want("the certificate ends", "certificate me")
		for i := range 10 * maxQueue {
			n.Tell(Test, fmt.Sprint(i), "x")
		}
		if got := len(n.queued()); got != maxQueue {
			t.Errorf("%d notices wait", got)
		}
	})
}

func TestAnEvictionIsToldWithItsReasonWhereThereIsOne(t *testing.T) {
	p := &place{ends: time.Now().Add(30 * 24 * time.Hour)}
	n := newTeller(p)
	n.Use(Settings{Command: []string{"/bin/true"}})
	n.look(t.Context())
	p.evicted = []identity.Eviction{{User: "eve", Reason: "lost phone: twice"}, {User: "gil"}, {ID: "x", Name: "tv", Owner: "ann"}}
	n.look(t.Context())
	var got []string
	for len(n.queue) > 0 {
		got = append(got, (<-n.queue).Text)
	}
	if want := []string{"eve was evicted: lost phone: twice", "gil was evicted", "tv was evicted"}; !slices.Equal(got, want) {
		t.Errorf("told: %q, want %q", got, want)
	}
}

func TestTheUseOfAGroupIsToldOnceOfEachUser(t *testing.T) {
	n := newTeller(&place{})
	n.Use(Settings{Command: []string{"/bin/true"}})
	for i := range 10 * maxKnown { // a peer chooses the target
		n.TellGroup("breakglass", "user bob uses tunnel", fmt.Sprint("tcp/", i))
	}
	n.TellGroup("breakglass", "user carol uses tunnel", "tcp/0")
	n.TellGroup("breakglass", "user carol uses terminal", "")
	n.TellGroup("breakglass", "remove [bob]"+strings.Repeat(" ", 1<<20), "")
	var got []string
	for len(n.queue) > 0 {
		got = append(got, (<-n.queue).Text)
	}
	want := []string{"user bob uses tunnel tcp/0", "user carol uses tunnel tcp/0", "user carol uses terminal", "remove [bob]"}
	for i := range want {
		want[i] = "group breakglass: " + want[i]
	}
	if !slices.Equal(got, want) {
		t.Errorf("told: %q, want %q", got, want)
	}
	for key := range n.told {
		if len(key) > 2*maxKey {
			t.Errorf("%d bytes are remembered", len(key))
		}
	}
}

func TestACommandGetsANoticeAndNoShellReadsIt(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("needs /bin/sh")
	}
	out := filepath.Join(t.TempDir(), "out")
	n := newTeller(&place{ends: time.Now().Add(30 * 24 * time.Hour)})
	n.Use(Settings{Command: []string{"/bin/sh", "-c", `printf '%s\n' "$ZTM_NOTICE_ABOUT" > "$1.new"; cat >> "$1.new"; mv "$1.new" "$1"`, "sh", out}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { n.Run(ctx); close(done) }() // ends below
	const evil = "$(touch /tmp/x); `id` \"'\n"
	n.Tell(Test, evil, "about %s", evil)
	appstest.Eventually(t, "the command has run", func() bool { _, err := os.Stat(out); return err == nil })
	cancel()
	<-done
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	about, text, _ := strings.Cut(string(b), evil+"\n")
	var got Notice
	if err := json.Unmarshal([]byte(text), &got); err != nil || about != "" || got.About != evil || got.Kind != Test || got.Mesh != "demo" || got.Endpoint != "me" {
		t.Errorf("%q: %+v, %v", b, got, err)
	}
}

func TestACommandIsSetOnTheDeviceItRunsOn(t *testing.T) {
	n := newTeller(&place{})
	saved := 0
	put := func(here bool, body string) error {
		w := httptest.NewRecorder()
		err := n.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", strings.NewReader(body)), here, func(Settings) error { saved++; return nil })
		if strings.Contains(w.Body.String(), "sixteen") {
			t.Errorf("the secret is shown: %s", w.Body)
		}
		return err
	}
	if err := put(false, `{"command":["/bin/true"]}`); answer.CodeOf(err) != answer.Denied || saved != 0 {
		t.Errorf("from elsewhere: %v", err)
	}
	for _, body := range []string{`{"command":["true"]}`, `{"webhook":"http://chat.example.com/"}`, `{"x":1}`} {
		if err := put(true, body); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := put(true, `{"command":["/bin/true"]}`); err != nil || saved != 1 {
		t.Errorf("here: %v", err)
	}
	if err := put(false, `{"webhook":"https://chat.example.com/","secret":"sixteen bytes or more"}`); err != nil || len(n.Settings().Command) != 0 {
		t.Errorf("a webhook from elsewhere: %v", err)
	}
}
