//go:build linux

package terminal

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
)

func TestKeptSessionIsReturnedToAndEnded(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob")
	in, type_ := io.Pipe()
	out := &appstest.Buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(&appstest.Console{Host: m.phone, In: in, Out: out}, "open", "-t", "--keep", "--", "office", "sh", "-c",
			"echo first; while read x; do echo got $x; done")
	}()
	appstest.Eventually(t, "output", func() bool { return strings.Contains(out.String(), "first") })
	type_.CloseWithError(errLeft) // as the escape does
	if err := <-done; err != nil {
		t.Fatalf("leaving a kept session: %v", err)
	}
	appstest.Eventually(t, "a detached session", func() bool { l := m.list(t); return len(l) == 1 && !l[0].Attached })
	id := m.list(t)[0].ID

	if r := m.run(m.phone, nil, "sessions", "office"); !regexp.MustCompile(`(?m)^` + id + ` +bob +phone +\S+ +kept +`).MatchString(r.Out) {
		t.Errorf("sessions:\n%s", r.Out)
	}
	in, type_ = io.Pipe()
	again := &appstest.Buffer{}
	go func() { done <- run(&appstest.Console{Host: m.phone, In: in, Out: again}, "attach", "office") }()
	go type_.Write([]byte("second\n"))
	appstest.Eventually(t, "output of the kept session", func() bool {
		return strings.Contains(again.String(), "first") && strings.Contains(again.String(), "got second")
	})
	m.must(t, "sessions", "--end="+id, "office")
	if err := <-done; err == nil {
		t.Error("a session that was ended ended well")
	}
	type_.Close()
	if l := m.list(t); len(l) != 0 {
		t.Errorf("left: %+v", l)
	}
	if r := m.run(m.phone, nil, "attach", "office"); r.Failure != `office has no session "" of yours` {
		t.Errorf("attach to nothing: %+v", r)
	}
}

func TestKeptSessionOfARemovedUserEnds(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob")
	in, type_ := io.Pipe()
	out := &appstest.Buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(&appstest.Console{Host: m.phone, In: in, Out: out}, "open", "-t", "--keep", "--", "office", "sh", "-c", "echo up; sleep 1000")
	}()
	appstest.Eventually(t, "output", func() bool { return strings.Contains(out.String(), "up") })
	type_.CloseWithError(errLeft)
	<-done
	m.must(t, "config", "--del-user=bob")
	appstest.Eventually(t, "no session", func() bool { return len(m.list(t)) == 0 })
}

func TestKeptSessionEndsWithWhatThePolicyGives(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob")
	m.keep(t, m.phone)
	mine := m.keep(t, m.laptop)
	m.net.Judge(func(apps.Peer, string) bool { return true })
	if l := m.list(t); len(l) != 2 {
		t.Errorf("sessions ended that the policy gives: %+v", l)
	}
	m.net.Judge(func(p apps.Peer, path string) bool { return p.User == "alice" || path != "shell" })
	appstest.Eventually(t, "the session that no grant gives any longer is gone", func() bool {
		l := m.list(t)
		return len(l) == 1 && l[0].ID == mine
	})
}

func TestLostConnectionIsTold(t *testing.T) {
	m := testMesh(t)
	in, type_ := io.Pipe()
	defer type_.Close()
	out := &appstest.Buffer{}
	done := make(chan error, 1)
	var errs appstest.Buffer
	go func() {
		done <- run(&appstest.Console{Host: m.laptop, In: in, Out: out, Err: &errs}, "open", "--", "office", "sh", "-c", "echo up; sleep 1000")
	}()
	appstest.Eventually(t, "output", func() bool { return strings.Contains(out.String(), "up") })
	m.office.SetOnline(false)
	var exit *apps.ExitError
	if err := <-done; !errors.As(err, &exit) || exit.Status != 255 || errs.String() != "ztm: the connection to office was lost\n" {
		t.Errorf("got %v, %q", err, errs.String())
	}
	m.office.SetOnline(true)
	appstest.Eventually(t, "no session", func() bool { return len(m.list(t)) == 0 })
}
