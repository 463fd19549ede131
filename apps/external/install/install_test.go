package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/external/bundle"
	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// world is a provider, and an endpoint of another user that installs.
type world struct {
	net   appstest.Net
	alice *appstest.Host
	host  apps.Host // of bob
	dir   string
	store *Store
	told  []string // apps that Changed was called for
}

func newWorld(t *testing.T) *world {
	w := &world{dir: t.TempDir()}
	w.alice = w.net.Join("a", "alice")
	w.net.Join("b", "bob").New("app", func(h apps.Host) apps.App {
		w.host = h
		return idle{}
	})
	w.store = w.open(w.host.State, w.dir)
	return w
}

// idle is an app that does nothing.
type idle struct{ apps.App }

func (idle) Left(func(apps.Peer) bool) {}

// open opens the apps of bob's endpoint, as a start of the agent does.
func (w *world) open(s apps.State, dir string) *Store {
	return New(Config{State: s, Notary: w.host.Notary, Dir: dir, OS: "linux", Arch: "mipsle", Changed: func(id string) { w.told = append(w.told, id) }})
}

// version is an app of alice with a program of a given text.
func version(sequence uint64, text string) (*bundle.Bundle, bundle.Source) {
	files := map[string]string{"bin/guests": text, "page.html": "<p>" + text}
	b := &bundle.Bundle{Manifest: manifest.Manifest{Provider: "alice", Name: "guests", Version: "1.0", Sequence: sequence, Exec: map[string][]string{"any": {"bin/guests"}}}}
	for _, name := range []string{"bin/guests", "page.html"} {
		sum := sha256.Sum256([]byte(files[name]))
		b.Files = append(b.Files, bundle.File{Path: name, Size: int64(len(files[name])), Exec: name == "bin/guests", Hash: sum[:]})
	}
	return b, func(f bundle.File) (io.ReadCloser, error) {
		return io.NopCloser(iotest{strings.NewReader(files[f.Path])}), nil
	}
}

// iotest reads one byte at a time.
type iotest struct{ io.Reader }

func (r iotest) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 1)]) }

// agreed returns the owner's word for a bundle.
func agreed(t *testing.T, b *bundle.Bundle) Consent {
	t.Helper()
	digest, err := b.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return Consent{Digest: hex.EncodeToString(digest)}
}

// sign signs a bundle as alice.
func (w *world) sign(t *testing.T, b *bundle.Bundle) bundle.Signed {
	t.Helper()
	s, err := bundle.Sign(w.alice.Notary("app"), b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// install installs a version, with the consent of its owner.
func (w *world) install(t *testing.T, sequence uint64, text string) error {
	t.Helper()
	b, from := version(sequence, text)
	_, err := w.store.Install(w.sign(t, b), from, agreed(t, b))
	return err
}

const id = "alice/guests"

// runs checks which version is the current one, and that it is complete.
func runs(t *testing.T, s *Store, want string) {
	t.Helper()
	a, err := s.Get(id)
	if err != nil || a.Problem != "" {
		t.Fatalf("the app: %v %s", err, a.Problem)
	}
	d, err := s.open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := bundle.Verify(d, a.Manifest.Sequence); err != nil {
		t.Errorf("the current version: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(a.Dir, "bin", "guests")); string(text) != want || err != nil {
		t.Errorf("the current program is %q, want %q; %v", text, want, err)
	}
}

func TestAVersionIsInstalledUpgradedAndRolledBack(t *testing.T) {
	w := newWorld(t)
	for i, text := range []string{"one", "two", "three"} {
		if err := w.install(t, uint64(i)+1, text); err != nil {
			t.Fatal(err)
		}
		runs(t, w.store, text)
	}
	for _, want := range []string{"two", "three"} {
		if _, err := w.store.Rollback(id); err != nil {
			t.Fatal(err)
		}
		runs(t, w.store, want)
	}
	if !slices.Equal(w.told, []string{id, id, id, id, id}) {
		t.Errorf("changes that were told of: %q", w.told)
	}
	dirs, err := os.ReadDir(w.store.versions(id))
	if err != nil || len(dirs) != 2 {
		t.Errorf("%d versions are on the disk: %v", len(dirs), err)
	}
	list, err := w.store.List()
	if err != nil || len(list) != 1 || list[0].Previous != 2 {
		t.Errorf("the list: %+v, %v", list, err)
	}
}

func TestAnOlderVersionIsRefusedUnlessTheOwnerWantsIt(t *testing.T) {
	w := newWorld(t)
	for _, sequence := range []uint64{3, 5} {
		if err := w.install(t, sequence, "new"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.install(t, 4, "old"); answer.CodeOf(err) != answer.Denied {
		t.Fatalf("an older version: %v", err)
	}
	runs(t, w.store, "new")
	b, from := version(4, "old")
	c := agreed(t, b)
	c.AllowDowngrade = true
	if _, err := w.store.Install(w.sign(t, b), from, c); err != nil {
		t.Fatal(err)
	}
	runs(t, w.store, "old")
}

func TestOneSequenceNumberWithOtherBytesIsRefusedAlways(t *testing.T) {
	w := newWorld(t)
	for i, text := range []string{"one", "two", "three"} {
		if err := w.install(t, uint64(i)+1, text); err != nil {
			t.Fatal(err)
		}
	}
	for _, sequence := range []uint64{1, 2, 3} {
		b, from := version(sequence, "other")
		c := agreed(t, b)
		c.AllowDowngrade = true
		if _, err := w.store.Install(w.sign(t, b), from, c); answer.CodeOf(err) != answer.Denied {
			t.Errorf("sequence %d with other bytes: %v", sequence, err)
		}
		if o, err := w.store.Examine(w.sign(t, b)); err != nil || o.Refusal == "" {
			t.Errorf("sequence %d with other bytes is offered: %+v, %v", sequence, o, err)
		}
	}
	runs(t, w.store, "three")
}

func TestAnAppWithoutAProgramForThisSystemIsRefused(t *testing.T) {
	w := newWorld(t)
	b, from := version(1, "one")
	b.Manifest.Exec = map[string][]string{"linux/amd64": {"bin/guests"}, "darwin": {"bin/guests"}}
	_, err := w.store.Install(w.sign(t, b), from, agreed(t, b))
	if answer.CodeOf(err) != answer.NotFound || !strings.Contains(err.Error(), "darwin, linux/amd64") {
		t.Errorf("an app for other systems: %v", err)
	}
}

func TestTheOwnerAgreesToOneVersionAndIsAskedWhenRightsGrow(t *testing.T) {
	w := newWorld(t)
	b, from := version(1, "one")
	b.Manifest.Rights = manifest.Rights{Exec: true}
	o, err := w.store.Examine(w.sign(t, b))
	if err != nil || len(o.Asks) != 1 || o.Installed != 0 || o.Digest != agreed(t, b).Digest {
		t.Fatalf("the first offer: %+v, %v", o, err)
	}
	if _, err := w.store.Install(w.sign(t, b), from, agreed(t, b)); err != nil {
		t.Fatal(err)
	}
	next, source := version(2, "two")
	next.Manifest.Rights = manifest.Rights{Exec: true, Net: manifest.AnyNet}
	if o, err = w.store.Examine(w.sign(t, next)); err != nil || len(o.Asks) != 1 || o.Installed != 1 {
		t.Fatalf("the second offer: %+v, %v", o, err)
	}
	if _, err := w.store.Install(w.sign(t, next), source, agreed(t, b)); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("with the consent to another version: %v", err)
	}
	runs(t, w.store, "one")
}

func TestWhatAnEvictedProviderHasInstalledGoesOnAndIsNotUpgraded(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	if a, err := w.store.Describe(id); err != nil || a.Problem != "" {
		t.Fatalf("before the eviction: %v, %s", err, a.Problem)
	}
	w.net.Evict("alice") // and somebody of that name is invited at once
	if err := w.install(t, 2, "two"); answer.CodeOf(err) != answer.Denied {
		t.Errorf("a version by the next user of that name: %v", err)
	}
	if a, err := w.store.Describe(id); err != nil || !strings.Contains(a.Problem, "evicted") {
		t.Errorf("after the eviction: %v, %q", err, a.Problem)
	}
	runs(t, w.store, "one")
}

func TestAnUpgradeThatFailsLeavesTheOldVersion(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	b, from := version(2, "two")
	broken := errors.New("the network broke")
	for i := range b.Files {
		source := func(f bundle.File) (io.ReadCloser, error) {
			if f.Path != b.Files[i].Path {
				return from(f)
			}
			return io.NopCloser(io.MultiReader(strings.NewReader("t"), failing{broken})), nil
		}
		if _, err := w.store.Install(w.sign(t, b), source, agreed(t, b)); err == nil {
			t.Error("no error")
		}
		runs(t, w.store, "one")
	}
	w.store.config.State = refusing{w.host.State}
	if _, err := w.store.Install(w.sign(t, b), from, agreed(t, b)); err == nil {
		t.Error("the state was not saved, and there is no error")
	}
	runs(t, w.store, "one")
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// refusing is a state on a disk that is full.
type refusing struct{ apps.State }

func (refusing) Save(string, any) error { return errors.New("no space left") }

// counting is a state that counts how often it is read.
type counting struct {
	apps.State
	loads int
}

func (c *counting) Load(k string, v any) (bool, error) {
	c.loads++
	return c.State.Load(k, v)
}

// TestTheStateIsReadOnceForManyRequests, and a change is seen by the next one.
func TestTheStateIsReadOnceForManyRequests(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	state := &counting{State: w.host.State}
	s := w.open(state, w.dir)
	for range 3 {
		if a, err := s.Get(id); err != nil || len(a.Users) > 0 || a.Disabled {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	if state.loads != 1 {
		t.Errorf("the state is read %d times", state.loads)
	}
	off := true
	if _, err := s.Change(id, Change{Grant: []string{"bob"}, Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Get(id); err != nil || len(a.Users) != 1 || !a.Disabled {
		t.Errorf("after the change: %+v, %v", a, err)
	}
	if err := s.Erase(id, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(id); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("after the removal: %v", err)
	}
}

func TestFilesThatWereDamagedAreBroughtBackByInstallingAgain(t *testing.T) {
	w := newWorld(t)
	for _, damage := range []func(dir string) error{
		os.RemoveAll,
		func(dir string) error { return os.WriteFile(filepath.Join(dir, "page.html"), nil, 0o644) },
	} {
		if err := w.install(t, 1, "one"); err != nil {
			t.Fatal(err)
		}
		a, err := w.store.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(a.Dir); err != nil {
			t.Fatal(err)
		}
		if err := w.install(t, 1, "one"); err != nil {
			t.Fatal(err)
		}
		runs(t, w.store, "one")
	}
}

func TestWhatIsErasedIsGoneAndWhatItWroteStaysUnlessThatIsErasedToo(t *testing.T) {
	w := newWorld(t)
	wrote := filepath.Join(w.store.DataDir(id), "book")
	for _, data := range []bool{false, true} {
		if err := w.install(t, 1, "one"); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(wrote, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := w.store.Erase(id, data); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Get(id); answer.CodeOf(err) != answer.NotFound {
			t.Errorf("after it was erased: %v", err)
		}
		if _, err := os.Stat(wrote); os.IsNotExist(err) != data {
			t.Errorf("what it wrote, with data %v: %v", data, err)
		}
		if _, err := os.Stat(w.store.versions(id)); !os.IsNotExist(err) {
			t.Errorf("its versions: %v", err)
		}
	}
}

func TestUsersAreGrantedAndRevokedByName(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	yes := true
	a, err := w.store.Change(id, Change{Grant: []string{"dave", "carol", "carol"}, Disabled: &yes, Unconfined: &yes})
	if err != nil || !slices.Equal(a.Users, []string{"carol", "dave"}) || !a.Disabled || !a.Unconfined {
		t.Fatalf("granted: %+v, %v", a, err)
	}
	if a, err = w.store.Change(id, Change{Revoke: []string{"carol"}}); err != nil || !slices.Equal(a.Users, []string{"dave"}) || !a.Disabled {
		t.Errorf("revoked: %+v, %v", a, err)
	}
	for _, name := range []string{"", "..", "a/b", strings.Repeat("x", 300)} {
		if _, err := w.store.Change(id, Change{Grant: []string{name}}); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("the user %q: %v", name, err)
		}
	}
	if err := w.install(t, 2, "two"); err != nil {
		t.Fatal(err)
	}
	if a, err = w.store.Get(id); err != nil || !slices.Equal(a.Users, []string{"dave"}) || !a.Disabled || !a.Unconfined {
		t.Errorf("after an upgrade: %+v, %v", a, err)
	}
}

func TestAppsOfOneNameFromTwoUsersAreTwo(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	b, from := version(1, "another")
	b.Manifest.Provider = "carol"
	signed, err := bundle.Sign(w.net.Join("c", "carol").Notary("app"), b)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.store.Install(signed, from, agreed(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Change(other.Manifest.ID(), Change{Grant: []string{"dave"}}); err != nil {
		t.Fatal(err)
	}
	if a, err := w.store.Get(id); err != nil || len(a.Users) > 0 || a.Dir == other.Dir || w.store.DataDir(id) == w.store.DataDir(other.Manifest.ID()) {
		t.Errorf("%+v beside %+v, %v", a, other, err)
	}
	runs(t, w.store, "one")
	if err := w.store.Erase(other.Manifest.ID(), true); err != nil {
		t.Fatal(err)
	}
	runs(t, w.store, "one")
}

func TestAnAppIsChangedByOneAtATime(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	b, from := version(2, "two")
	_, err := w.store.Install(w.sign(t, b), func(f bundle.File) (io.ReadCloser, error) {
		_, changed := w.store.Change(id, Change{Grant: []string{"dave"}})
		_, back := w.store.Rollback(id)
		for _, err := range []error{changed, back, w.store.Erase(id, true)} {
			if answer.CodeOf(err) != answer.Conflict {
				t.Errorf("during an upgrade: %v", err)
			}
		}
		return from(f)
	}, agreed(t, b))
	if err != nil {
		t.Fatal(err)
	}
	runs(t, w.store, "two")
}

func TestANameThatIsNoneReachesNoFile(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{"", "guests", "../guests", "alice/..", "alice/guests/x", `alice\guests/x`} {
		_, err := w.store.Get(bad)
		for _, err := range []error{err, w.store.Erase(bad, true)} {
			if answer.CodeOf(err) != answer.BadRequest {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}

func TestOnlySoManyVersionsAreRemembered(t *testing.T) {
	var old App
	for n := range uint64(keptVersions + 10) {
		b, _ := version(n+1, "x")
		old = next(old, b, bytes.Repeat([]byte{1}, 32), Consent{})
	}
	if _, first := old.Digests["1"]; first || len(old.Digests) != keptVersions {
		t.Errorf("%d digests are kept, the first among them: %v", len(old.Digests), first)
	}
}
