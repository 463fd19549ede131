package exit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/reach"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func addresses(t *testing.T, texts ...string) (list []spec.Address) {
	t.Helper()
	for _, s := range texts {
		a, err := spec.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

func TestAFlowOfARangeGoesToItsPortOfEachTarget(t *testing.T) {
	for _, test := range []struct {
		query   string
		targets []string
		want    string // "" for a bad request
	}{
		{"", []string{"a:80", "b:81"}, "[a:80 b:81]"},
		{"port=0&ports=1", []string{"a:80"}, "[a:80]"},
		{"port=2&ports=3", []string{"a:80-82", "b:90-92"}, "[a:82 b:92]"},
		{"port=0&ports=2", []string{"a:80-82"}, ""},
		{"", []string{"a:80-82"}, ""},
		{"port=3&ports=3", []string{"a:80-82"}, ""},
		{"port=-1&ports=3", []string{"a:80-82"}, ""},
		{"ports=3", []string{"a:80-82"}, ""},
		{"port=x&ports=3", []string{"a:80-82"}, ""},
	} {
		q, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		o := &spec.Outbound{OutboundSpec: spec.OutboundSpec{Targets: addresses(t, test.targets...)}}
		got, err := targetsOf(o, q)
		if test.want == "" && answer.CodeOf(err) != answer.BadRequest || test.want != "" && fmt.Sprint(got) != test.want {
			t.Errorf("%v with %q: %v, %v, want %s", test.targets, test.query, got, err, test.want)
		}
	}
}

func TestARuleIsForItsUsersAndItsDestinations(t *testing.T) {
	self := apps.Endpoint{Name: "ep", User: "owner"}
	rules := func(texts ...string) []spec.Allow {
		var list []spec.Allow
		for _, s := range texts {
			target, users, _ := strings.Cut(s, " ")
			p, err := reach.ParsePattern(target)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, spec.Allow{Target: p, Users: strings.Fields(users)})
		}
		return list
	}
	for _, test := range []struct {
		name, user, target string
		rules              []spec.Allow
		code               answer.Code
		addrs              int // how many addresses the flow is held to
	}{
		{"own user, no rule", "owner", "10.0.0.1:22", nil, "", 0},
		{"own user, a socket", "owner", "unix:/run/x", nil, "", 0},
		{"no rule", "bob", "10.0.0.1:22", nil, answer.Denied, 0},
		{"the rule of another user", "bob", "10.0.0.1:22", rules("10.0.0.0/8:22 carol"), answer.Denied, 0},
		{"an address of the network", "bob", "10.0.0.1:22", rules("10.0.0.0/8:22 carol bob"), "", 0},
		{"another port", "bob", "10.0.0.1:23", rules("10.0.0.0/8:22 bob"), answer.Denied, 0},
		{"a mapped address", "bob", "[::ffff:10.0.0.1]:22", rules("10.0.0.0/8:22 bob"), "", 0},
		{"a name by its name", "bob", "DB.local:22", rules("db.local:22 bob"), "", 0},
		{"a name by its addresses", "bob", "localhost:22", rules("127.0.0.0/8:22 bob"), "", 1},
		{"a name of other addresses", "bob", "localhost:22", rules("10.0.0.0/8:22 bob"), answer.Denied, 0},
		{"a name that looks like an address", "bob", "0x7f.1:22", rules("127.0.0.0/8:22 bob"), answer.BadRequest, 0},
		{"a socket", "bob", "unix:/run/x", rules("* bob"), answer.Denied, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &access{names: plain, rules: test.rules}
			got, err := a.permit(t.Context(), self, apps.Peer{User: test.user}, addresses(t, test.target)[0])
			if answer.CodeOf(err) != test.code || len(got) < test.addrs || test.addrs == 0 && len(got) > 0 {
				t.Errorf("got %v, %v, want %q", got, err, test.code)
			}
			if slices.ContainsFunc(got, func(ip netip.Addr) bool { return !ip.IsLoopback() }) {
				t.Errorf("%v are not all what was allowed", got)
			}
		})
	}
}

func TestARuleThatIsTakenAwayWhileFlowsAreJudgedDoesNotComeBack(t *testing.T) {
	rules := make([]spec.Allow, 1000)
	a := &access{names: func(apps.Peer, []string) bool { return true }}
	for range 300 {
		a.SetRules(rules, "alice")
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if a.Judge("alice"); i == 4 {
					a.SetRules(nil, "alice")
				}
			})
		}
		all.Wait()
		if len(a.List()) > 0 {
			t.Fatal("the rule is in force again")
		}
	}
}

func TestTheNextTargetIsDialledWhenOneRefuses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	list := addresses(t, appstest.FreeAddress(t), ln.Addr().String())
	var failed []spec.Address
	c, took, err := dialAny(t.Context(), spec.TCP, list, func(a spec.Address, err error) {
		if answer.CodeOf(err) != answer.Refused {
			t.Errorf("%s: %v", a, err)
		}
		failed = append(failed, a)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if took != list[1] || !slices.Equal(failed, list[:1]) {
		t.Errorf("%v failed and %v was taken", failed, took)
	}
}

func TestAFlowThatWasGivenUpIsNotDialledOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := 0
	began := time.Now()
	_, _, err := dialAny(ctx, spec.TCP, addresses(t, "127.0.0.1:1", "127.0.0.1:2"), func(spec.Address, error) { failed++ })
	if answer.CodeOf(err) != answer.Broken || failed > 0 || time.Since(began) > appstest.Timeout {
		t.Errorf("got %v, with %d targets marked", err, failed)
	}
}

// refusedFlow is a flow that is refused.
type refusedFlow struct {
	apps.Flow
	peer apps.Peer
}

func (f refusedFlow) Peer() apps.Peer { return f.peer }
func (refusedFlow) Refuse(error)      {}

// A peer chooses how often it asks, and what for.
func TestAPeerThatIsRefusedAgainAndAgainWritesFewShortLines(t *testing.T) {
	var log bytes.Buffer
	x := newCore(slog.New(slog.NewTextHandler(&log, nil)))
	f := refusedFlow{peer: apps.Peer{ID: identity.IDOf([]byte("mallory")), User: "mallory"}}
	long := errors.New(strings.Repeat("x", 100_000))
	for range 2000 {
		x.Answer(f, long)
	}
	if lines := bytes.Count(log.Bytes(), []byte("\n")); lines < 1 || lines > 30 || log.Len() > lines*1000 {
		t.Errorf("2000 refusals made %d lines of %d bytes", lines, log.Len())
	}
	if got := x.Stats.Snapshot().Errors[answer.Internal]; got != 2000 {
		t.Errorf("%d were counted", got)
	}
}

// plain is the [apps.Names] of a mesh without groups.
func plain(p apps.Peer, who []string) bool { return slices.Contains(who, p.User) }
