package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/audit"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/seal"
)

// threeUsers is a world with a device of root, the office of alice and a device of bob.
func threeUsers(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	w.join("bob", "bob")
	return w
}

// setPolicy replaces the policy at an endpoint that holds the CA key.
func (w *world) setPolicy(name string, change func(*policy.Source)) {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, _, err := api.Dial(ctx, w.path(name))
		return c, err
	}}}
	self := w.endpointOf(name)
	at := "http://localhost" + api.EndpointPath("demo", self, "policy", "source")
	ask := func(method string, in any, out *api.PolicySource) error {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(w.t.Context(), method, at, bytes.NewReader(body))
		if err != nil {
			return err
		}
		c, token, err := api.Dial(w.t.Context(), w.path(name))
		if err != nil {
			return err
		}
		c.Close()
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(api.TokenHeader, token)
		req.Header.Set(api.ClientHeader, "1")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, b)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(b, out)
	}
	var s api.PolicySource
	if err := ask(http.MethodGet, nil, &s); err != nil {
		w.t.Fatal(err)
	}
	change(s.Source)
	if err := ask(http.MethodPut, s, &s); err != nil {
		w.t.Fatal(err)
	}
}

// endpointOf is the ID of an agent's endpoint.
func (w *world) endpointOf(name string) identity.ID { return w.membership(name).Agent.ID }

// way is one way into an app.
type way struct {
	path  string // below /v1/apps/
	query url.Values
	grant string // what lets somebody take it
	stays bool   // the flow runs until it is ended
}

// open takes a way on a session and returns the status, and the body of what was accepted.
func open(t testing.TB, s *seal.Session, way way) (status int, ended <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	body, feed := io.Pipe()
	t.Cleanup(func() { feed.Close() })
	target := "http://peer" + seal.PathApps + way.path
	if len(way.query) > 0 {
		target += "?" + way.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	resp, err := s.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
	}()
	return resp.StatusCode, over
}

// Each way into each app is refused to a user without a grant, whatever the owner allows; a grant
// opens that way and no other; and what runs is cut when it is taken back.
func TestEachWayIntoEachAppIsJudgedByThePolicy(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	target, dir := echoServer(t), t.TempDir()
	for _, rule := range []string{
		"tunnel open outbound tcp/echo --targets " + target + " --users bob",
		"tunnel open outbound udp/echo --targets " + target + " --users bob",
		"tunnel allow --target " + target + " --users bob",
		"terminal config --add-user bob", "script config --add-user bob", "file allow " + dir + " --users bob --write", "file inbox --add-user bob",
		"proxy config --add-target 127.0.0.0/8", "proxy rules --users bob --targets * --action allow",
	} {
		w.ztm("office", strings.Fields(rule)...)
	}
	session := w.intruder("bob").session(t, w.endpointOf("office"))
	ways := []way{
		{"tunnel/tcp/echo", nil, "tunnel/tcp/echo", true},
		{"tunnel/udp/echo", nil, "tunnel/udp/echo", true},
		{"tunnel/tcp/echo", url.Values{"probe": {""}}, "tunnel/tcp/*", false},
		{"tunnel/forward/tcp", url.Values{"target": {target}}, "tunnel/forward/127.0.0.0/8:*", true},
		{"terminal/shell", nil, "terminal", true},
		{"terminal/sessions", nil, "terminal/sessions", false},
		{"script/run", nil, "script/run", true},
		{"file/list", url.Values{"path": {dir}}, "file/read", false},
		{"file/inbox", nil, "file/inbox", true},
		{"proxy/tcp", url.Values{"target": {target}}, "proxy/127.0.0.1", true},
		{"proxy/targets", nil, "proxy/127.0.0.1", false},
	}
	for _, way := range ways {
		if status, _ := open(t, session, way); status != http.StatusOK {
			t.Fatalf("%s without a policy: status %d", way.path, status)
		}
	}
	w.setPolicy("root", func(s *policy.Source) { s.Mode, s.Users["bob"] = policy.Enforce, policy.User{} })
	w.until("the policy is in force", func() error { return w.enforced("office", 1) })
	for _, k := range kinds() { // an app that this test does not know is judged as well
		if status, _ := open(t, session, way{path: k.Name + "/any"}); status != http.StatusForbidden {
			t.Errorf("app %s is reached without a grant: status %d", k.Name, status)
		}
	}
	for _, other := range []string{"tunnel/reverse/tcp", "file/read", "file/write", "proxy/dns", "cloud/fetch"} {
		if status, _ := open(t, session, way{path: other}); status != http.StatusForbidden {
			t.Errorf("%s without a grant: status %d", other, status)
		}
	}
	for _, way := range ways {
		if status, _ := open(t, session, way); status != http.StatusForbidden {
			t.Errorf("%s without a grant: status %d", way.path, status)
		}
	}
	// Two apps at a time, and nothing is taken back after the last: each change takes its time.
	version, half := uint64(1), (len(ways)+1)/2
	for i := range half {
		version++
		running := w.granted(session, version, ways, ways[i], ways[min(i+half, len(ways)-1)])
		if i == half-1 {
			break
		}
		version++
		w.setPolicy("root", func(s *policy.Source) { s.Grants = []policy.Grant{} })
		w.until("it was taken back", func() error { return w.enforced("office", version) })
		for path, ended := range running {
			w.until(path+" is cut", func() error {
				select {
				case <-ended:
					return nil
				default:
					return errors.New("it runs")
				}
			})
			w.audited("office", "it was "+path+" that was cut", func(l audit.Line) bool { // it may have ended by itself, or by its app
				return l.Result == audit.End && l.Reason == audit.Cut && strings.HasPrefix(l.App+"/"+l.Target, path)
			})
		}
	}
}

// granted gives bob two of the ways and looks which are open then. It returns the flows that stay.
func (w *world) granted(session *seal.Session, version uint64, all []way, given ...way) (running map[string]<-chan struct{}) {
	w.t.Helper()
	w.setPolicy("root", func(s *policy.Source) {
		s.Grants = nil
		for _, way := range given {
			name := strings.ReplaceAll(way.path, "/", "-")
			s.Grants = append(s.Grants, policy.Grant{Name: name, Who: []policy.Who{{Name: "bob", Added: 1}}, To: []string{way.grant}, At: []string{"*"}, From: []string{"*"}})
		}
	})
	w.until("the grants are in force", func() error { return w.enforced("office", version) })
	running = map[string]<-chan struct{}{}
	apps := map[string]bool{}
	for _, way := range given {
		app, _, _ := strings.Cut(way.path, "/")
		apps[app] = true
		status, ended := open(w.t, session, way)
		if status != http.StatusOK {
			w.t.Errorf("%s with grant %s: status %d", way.path, way.grant, status)
		}
		if way.stays {
			running[way.path] = ended
		}
	}
	for _, other := range all {
		app, _, _ := strings.Cut(other.path, "/")
		if status, _ := open(w.t, session, other); status == http.StatusOK && !apps[app] {
			w.t.Errorf("the grants let somebody in at %s", other.path)
		}
	}
	return running
}

// enforced reports whether an agent has a version of the policy in force.
func (w *world) enforced(name string, version uint64) error {
	return atVersion(w.policyOf(name), version)
}
