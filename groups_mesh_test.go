package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// policyOf is what an agent knows of the policy.
func (w *world) policyOf(name string) (p api.Policy) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.ztm(name, "policy", "get", "-o", "json")), &p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// reaches waits until an echo through a tunnel works, or is refused.
func (w *world) reaches(listen string, want bool) {
	w.t.Helper()
	w.until(fmt.Sprintf("reached through %s: %v", listen, want), func() error {
		got, err := echo(listen, "hello")
		if ok := err == nil && got == "hello"; ok != want {
			return fmt.Errorf("got %q, %v", got, err)
		}
		return nil
	})
}

// ends waits until a live flow is cut.
func (w *world) ends(say func() error) {
	w.t.Helper()
	w.until("the flow is cut", func() error {
		if say() == nil {
			return errors.New("it is not")
		}
		return nil
	})
}

func TestAGroupLetsItsMembersInUntilTheyLeaveOrTheirTimeEnds(t *testing.T) {
	w := threeUsers(t)
	listen := w.tunnelTo("bob", "office", "web", echoServer(t), "--users", "group:ops")
	w.reaches(listen, false)
	w.ztm("root", "group", "add", "ops", "bob", "--reason", "on call")
	w.reaches(listen, true)
	say := w.liveFlow(listen)
	w.ztm("root", "group", "add", "ops", "carol")
	if err := say(); err != nil {
		t.Errorf("somebody else is put into the group, and the flow ends: %v", err)
	}
	w.ztm("root", "group", "remove", "ops", "bob")
	w.ends(say)
	w.reaches(listen, false)

	w.ztm("root", "group", "add", "ops", "bob", "--until", "3s")
	w.reaches(listen, true)
	w.ends(w.liveFlow(listen))
	w.reaches(listen, false)
	for _, command := range []string{"group describe ops", "can bob"} {
		if out := w.ztm("root", strings.Fields(command)...); !strings.Contains(out, "(over)") {
			t.Errorf("ztm %s does not say that it is over:\n%s", command, out)
		}
	}
	if out := w.ztm("root", "group", "get"); strings.Contains(out, "bob") {
		t.Errorf("bob is in a group still:\n%s", out)
	}

	w.ztm("root", "group", "add", "ops", "bob")
	w.reaches(listen, true)
	say = w.liveFlow(listen)
	w.ztm("root", "evict", "bob")
	w.ends(say)
	if out := w.ztm("root", "group", "describe", "ops"); !regexp.MustCompile(`bob .*evicted`).MatchString(out) {
		t.Errorf("the group has bob still:\n%s", out)
	}
	if out, _, status := w.try("root", "can", "bob"); status == 0 || strings.Contains(out, "ops") {
		t.Errorf("ztm can bob: status %d\n%s", status, out)
	}
	w.write("bob.pub", w.ztm("bob", "identity"))
	w.ztm("root", "invite", "bob", "--identity", w.path("bob.pub"), "--permit", w.path("again.json"))
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("again.json"))
	w.connected("bob")
	w.reaches(listen, false) // whoever is invited under the name is in no group
	w.ztm("root", "group", "add", "ops", "bob")
	w.reaches(listen, true)
}

func TestTheAccessOfAUserWhoIsInvitedForSomeTimeEndsByItself(t *testing.T) {
	w := threeUsers(t)
	listen := w.tunnelTo("bob", "office", "web", echoServer(t), "--users", "bob")
	w.reaches(listen, true)
	say := w.liveFlow(listen)
	w.write("more.pub", w.ztm("bob", "identity"))
	w.ztm("root", "invite", "bob", "--identity", w.path("more.pub"), "--permit", w.path("more.json"), "--valid", "1m")
	w.until("the office knows of it", func() error { return w.enforced("office", 1) })
	if err := say(); err != nil {
		t.Errorf("before the end: %v", err)
	}
	w.setPolicy("root", func(s *policy.Source) {
		s.Users["bob"] = policy.User{Until: unixtime.Of(time.Now().Add(3 * time.Second))}
	})
	w.ends(say)
	w.reaches(listen, false)
	for _, at := range []string{"root", "office"} {
		if out := w.ztm(at, "get", "user", "bob"); !strings.Contains(out, "Ended") {
			t.Errorf("%s says of bob:\n%s", at, out)
		}
	}
	for _, how := range [][]string{nil, {"--identity", w.path("more.pub")}} {
		if _, stderr, status := w.try("root", append([]string{"invite", "bob", "--permit", w.path("late.json")}, how...)...); status != 1 || !strings.Contains(stderr, "--valid") {
			t.Errorf("who has no access any longer is invited, %q: %d %s", how, status, stderr)
		}
	}
	today := time.Now().UTC()
	day := today.AddDate(0, 0, 2).Format(time.DateOnly)
	w.ztm("root", "invite", "gil", "--permit", w.path("gil.json"), "--valid", day)
	if out := w.ztm("root", "policy", "export"); !strings.Contains(out, today.AddDate(0, 0, 3).Format(time.DateOnly)+"T00:00:00Z") {
		t.Errorf("the access of gil does not end after %s:\n%s", day, out)
	}
	if _, stderr, status := w.try("office", "invite", "gil", "--permit", w.path("gil.json"), "--valid", "1h"); status == 0 {
		t.Errorf("who does not hold the CA key limits a user: %s", stderr)
	}
	if _, stderr, status := w.try("root", "invite", "gil", "--permit", w.path("gil.json"), "--valid", "1s"); status != 2 {
		t.Errorf("an end that is no end: %d %s", status, stderr)
	}
}

func TestAGroupIsMadeBeforeAnybodyIsInItAndLetsNobodyStayLonger(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "group", "add", "breakglass", "--max", "1h")
	if out := w.ztm("root", "group", "get"); !strings.Contains(out, "breakglass") {
		t.Errorf("there is no such group:\n%s", out)
	}
	for _, more := range [][]string{nil, {"--until", "2h"}} {
		if _, _, status := w.try("root", append([]string{"group", "add", "breakglass", "root"}, more...)...); status != 1 {
			t.Errorf("%q: exit status %d", more, status)
		}
	}
	w.ztm("root", "group", "add", "breakglass", "root", "--until", "1h")
	for _, typed := range []string{"group add breakglass", "group add breakglass --max 1h --until 2h", "audit config --file-count 0"} {
		if _, errs, status := w.try("root", strings.Fields(typed)...); status != 2 {
			t.Errorf("ztm %s does nothing, and says nothing of it: %d %s", typed, status, errs)
		}
	}
}

func TestARuleThatNamesAGroupThatIsNotThereIsWarnedAbout(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "group", "add", "ops", "bob")
	for _, c := range []struct {
		who  string
		warn bool
	}{{"group:ops", false}, {"group:opps", true}, {"label:kind=till", true}, {"@policy", false}} {
		_, errs, status := w.try("root", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1", "--users", c.who)
		if warned := strings.Contains(errs, c.who); status != 0 || warned != c.warn {
			t.Errorf("--users %s: status %d, %q", c.who, status, errs)
		}
		w.ztm("root", "tunnel", "close", "outbound", "tcp/web")
	}
}

func TestWhoCanSaysWhoAndWhyWhereItIsDecided(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	w.tunnelTo("root", "office", "web", echoServer(t), "--users", "group:ops", "--users", "carol")
	w.ztm("root", "group", "add", "ops", "bob", "--until", "30d")
	w.until("the group is known at the office", func() error {
		var out api.WhoCan
		if err := json.Unmarshal([]byte(w.ztm("office", "who-can", "reach", ".", "tcp/web", "-o", "json")), &out); err != nil {
			return err
		}
		var who []string
		for _, r := range out.Rows {
			if r.Allow {
				who = append(who, r.User)
			}
			if ends := !r.Until.IsZero(); r.Allow && ends != (r.User == "bob") {
				return fmt.Errorf("the access of %s ends: %t", r.User, ends)
			}
		}
		if got := strings.Join(who, " "); got != "alice bob carol" {
			return fmt.Errorf("%s can reach it", got)
		}
		return nil
	})
	if out := w.ztm("root", "can", "bob"); !strings.Contains(out, "group:ops") {
		t.Errorf("bob can: %s", out)
	}
	if _, stderr, status := w.try("root", "can", "bbo"); status == 0 {
		t.Errorf("what a user can whom nobody knows was answered: %s", stderr)
	}
	if _, stderr, status := w.try("office", "who-can", "reach", ".", "tcp/wob"); status == 0 {
		t.Errorf("who can reach what is not there was answered: %s", stderr)
	}
}

func TestAnEndpointThatWasAwayHearsOfThePolicyWhenItIsBack(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	stop := w.join("office", "alice")
	w.ztm("root", "group", "add", "ops", "bob")
	w.until("the office has it", func() error { return atVersion(w.policyOf("office"), 1) })
	stop()
	w.ztm("root", "group", "add", "ops", "carol")
	w.startAgent("office")
	w.until("the office has the next", func() error { return atVersion(w.policyOf("office"), 2) })
}

func atVersion(p api.Policy, want uint64) error {
	if p.Version != want || !p.InForce {
		return fmt.Errorf("version %d, in force: %v", p.Version, p.InForce)
	}
	return nil
}

func TestOnlyWhoHoldsTheCAKeyChangesThePolicyAndOnlyRootHasAllOfIt(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	for _, args := range [][]string{{"group", "add", "ops", "alice"}, {"group", "remove", "ops"}, {"policy", "label", "ep-office", "x=1"}} {
		if _, stderr, status := w.try("office", args...); status == 0 || !strings.Contains(stderr, "CA key") {
			t.Errorf("ztm %s: %d %s", strings.Join(args, " "), status, stderr)
		}
	}
	w.ztm("root", "policy", "label", "ep-office", "kind=till")
	w.until("the office has its label", func() error {
		if p := w.policyOf("office"); len(p.Labels) != 1 || p.Labels[0] != "kind=till" {
			return fmt.Errorf("it has %v", p.Labels)
		}
		return nil
	})
}
