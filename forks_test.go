package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/hub"
)

// evicted lists the users and IDs that are evicted as an agent knows it.
func (w *world) evicted(agent string) (all []string) {
	w.t.Helper()
	var list []api.Eviction
	if err := json.Unmarshal([]byte(w.ztm(agent, "get", "user", "--evicted", "-o", "json")), &list); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list {
		all = append(all, e.User+string(e.ID))
	}
	return all
}

// secondHub starts another hub of the mesh that knows nothing of the first.
func (w *world) secondHub() *world {
	w.t.Helper()
	second := emptyWorld(w.t)
	root, err := os.ReadFile(w.path("root.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	second.write("root.json", string(root))
	second.startHub(hub.Config{})
	return second
}

// permitAt is a permit of this world for agents that try the hubs of these addresses in order.
func (w *world) permitAt(permit string, addresses ...string) {
	w.t.Helper()
	b, err := os.ReadFile(w.path(permit))
	if err != nil {
		w.t.Fatal(err)
	}
	var p map[string]any
	if err := json.Unmarshal(b, &p); err != nil {
		w.t.Fatal(err)
	}
	p["bootstraps"] = addresses
	if b, err = json.Marshal(p); err != nil {
		w.t.Fatal(err)
	}
	w.write(permit, string(b))
}

func TestEvictionsAtHubsThatDoNotKnowEachOtherAllHoldInTheEnd(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	second := w.secondHub()
	w.startAgent("root2")
	w.write("root2.json", mustRead(t, w.path("root.json")))
	w.permitAt("root2.json", second.address)
	w.ztm("root2", "join", "demo", "--as", "ep-root2", "--permit", w.path("root2.json"))
	for _, name := range []string{"bob", "carol"} {
		w.startAgent(name)
		w.ztm("root", "invite", name, "--permit", w.path(name+".json"))
		w.permitAt(name+".json", w.address, second.address)
		w.ztm(name, "join", "demo", "--as", "ep-"+name, "--permit", w.path(name+".json"))
		w.connected(name)
	}

	w.ztm("root", "evict", "bob")
	w.ztm("root2", "evict", "mallory", "--force")
	w.ztm("root2", "evict", "trudy", "--force")
	w.until("carol knows of bob's eviction", func() error { return lacks(w.evicted("carol"), "bob") })

	// The list of the second hub has a higher version and lacks the eviction of bob.
	w.stopHub()
	all := []string{"bob", "mallory", "trudy"}
	for _, name := range []string{"root2", "carol"} {
		w.until(name+" has all evictions once carol came to the second hub", func() error { return lacks(w.evicted(name), all...) })
	}
	// An endpoint leaves it to the hubs for some seconds to tell each other.
	w.until("bob is out at the second hub, too", func() error {
		if out := w.ztm("bob", "get", "mesh"); strings.Contains(out, "Connected") {
			return errors.New(out)
		}
		return nil
	})
	w.startHub(hub.Config{})
	second.stopHub()
	w.until("the first endpoint of root has all evictions once carol came back", func() error { return lacks(w.evicted("root"), all...) })
	if out := w.ztm("bob", "get", "mesh"); strings.Contains(out, "Connected") {
		t.Errorf("bob is back:\n%s", out)
	}
}

// lacks returns an error if a list lacks one of some words.
func lacks(list []string, words ...string) error {
	for _, word := range words {
		if !slices.Contains(list, word) {
			return fmt.Errorf("%q lacks %s", list, word)
		}
	}
	return nil
}

func TestOneEndpointIsEvictedAndTheOthersOfItsUserGoOn(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("laptop", "bob")
	w.join("phone", "bob")
	phone := w.endpoint("ep-phone").ID
	w.ztm("root", "evict", "ep", "ep-phone", "--reason", "stolen")
	for _, name := range []string{"root", "laptop"} {
		w.until(name+" knows", func() error { return lacks(w.evicted(name), string(phone)) })
	}
	w.until("the phone is out", func() error {
		if out := w.ztm("phone", "get", "mesh"); !strings.Contains(out, "was evicted") {
			return errors.New(out)
		}
		return nil
	})
	w.connected("laptop")
	out := w.ztm("laptop", "get", "user", "--evicted")
	for _, want := range []string{"endpoint  ep-phone  bob", "ep-root", "stolen"} {
		if !strings.Contains(out, want) {
			t.Errorf("people do not read %q in\n%s", want, out)
		}
	}
	if out := w.ztm("root", "get", "user", "bob"); !strings.Contains(out, "Member") || !strings.Contains(out, "ep-root") {
		t.Errorf("bob is shown as\n%s", out)
	}

	// An older permit does not bring it back, a new one does.
	if _, errs, status := w.try("phone", "join", "demo", "--as", "ep-phone", "--permit", w.path("phone.json")); status != 1 {
		t.Errorf("the old permit was taken: %s", errs)
	}
	w.ztm("root", "invite", "bob", "--permit", w.path("new.json"))
	w.ztm("phone", "join", "demo", "--as", "ep-phone", "--permit", w.path("new.json"))
	w.connected("phone")
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnEvictionReachesAHubThatIsCutOffByAgentsAlone(t *testing.T) {
	s := newSeveral(t, 2) // they know nothing of each other, and share no store
	s.join("root", "root")
	s.attach("bob", "bob", 2)
	s.startAgent("mallory")
	s.write("mallory.pub", s.ztm("mallory", "identity"))
	s.ztm("root", "invite", "mallory", "--identity", s.path("mallory.pub"), "--permit", s.path("mallory.json"))
	s.permitAt("mallory.json", s.gates[1].address)
	s.ztm("mallory", "join", "demo", "--as", "ep-mallory", "--permit", s.path("mallory.json"))
	s.connected("mallory")
	if hubs := s.hubs("root"); len(hubs) != 1 || hubs[0].Address != s.gates[0].address {
		t.Fatalf("the endpoint that evicts knows of %+v", hubs)
	}
	s.ztm("root", "evict", "mallory", "--force")
	s.until("the other hub lets mallory go", func() error {
		if out := s.ztm("mallory", "get", "mesh"); !strings.Contains(out, "was evicted") {
			return errors.New(out)
		}
		return nil
	})
}
