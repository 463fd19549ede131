// Package install keeps the apps of others that an endpoint has: which version is the current one,
// and what its owner allowed.
//
//	signed bundle -> Examine: may it follow what is here? what does it ask for? -> the owner agrees
//	-> unpack beside what is there -> one write of the state: the new version is the current one
//	                                  \-- before it: the old one is, complete
//
// The files of a version are below versions/PROVIDER/NAME/SEQUENCE, what the app writes is below
// data/PROVIDER/NAME. Only the state says which version is current, so an interruption at any moment
// leaves one whole version. What is not in the state is removed at the next start.
package install

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/apps/external/bundle"
	"ztm/apps/external/manifest"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// maxApps is how many apps an endpoint has at most.
const maxApps = 100

// maxUsers is how many users an app is granted to by name.
const maxUsers = 256

// Config is what a [Store] needs. All fields have to be set.
type Config struct {
	State   apps.State
	Notary  apps.Notary
	Dir     string          // of all apps of this endpoint in this mesh; made when it is needed
	OS      string          // of this machine, as Go names it: "linux"
	Arch    string          // "mipsle"
	Changed func(id string) // called when another version or other rights are in force, or none
}

// Store is the apps of others in one mesh. Its methods may be called from any goroutine.
type Store struct {
	config Config

	mu    sync.Mutex
	busy  map[string]bool // apps that are being changed; guarded by mu
	known map[string]App  // what the state has, as far as somebody asked; guarded by mu
}

// New returns the apps that the state names.
func New(c Config) *Store { return &Store{config: c, busy: map[string]bool{}, known: map[string]App{}} }

// App is an app that is installed here.
type App struct {
	manifest.Installed

	// Granted is what the owner agreed to, at the installation or at an upgrade.
	Granted manifest.Rights `json:"granted,omitzero"`

	// Previous is the sequence number of the version that a rollback brings back; 0 is none.
	Previous uint64 `json:"previous,omitempty"`

	// Problem says why the app cannot run or will not be upgraded; "" is nothing.
	Problem string `json:"problem,omitempty"`

	// Signer is the endpoint that signed the current version; only [Store.Describe] fills it in.
	Signer identity.ID `json:"signer,omitempty"`

	// Digests are of all versions that were ever current, by sequence number in decimal.
	Digests map[string][]byte `json:"digests,omitempty"`
}

// keptVersions is how many digests of old versions are remembered.
const keptVersions = 64

func key(id string) string { return "installed/" + id }

// List returns all apps, sorted by provider and name.
func (s *Store) List() ([]App, error) {
	keys, err := s.config.State.Keys(key(""))
	if err != nil {
		return nil, err
	}
	list := []App{}
	for _, k := range keys {
		a, err := s.Get(strings.TrimPrefix(k, key("")))
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// load reads an app from the state. Each request to an app asks for it, so it is read once.
func (s *Store) load(id string) (a App, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, found = s.known[id]; found {
		return a, true, nil
	}
	if found, err = s.config.State.Load(key(id), &a); found && err == nil {
		s.known[id] = a
	}
	return a, found, err
}

// save makes a the state of an app, and tells that it has changed. nil is an app that is here no longer.
func (s *Store) save(id string, a *App) error {
	if err := s.write(id, a); err != nil {
		return err
	}
	s.config.Changed(id)
	return nil
}

func (s *Store) write(id string, a *App) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
	if a == nil {
		return s.config.State.Delete(key(id))
	}
	return s.config.State.Save(key(id), *a)
}

// Get returns an app by "PROVIDER/NAME", and looks whether its files are here.
func (s *Store) Get(id string) (App, error) {
	a, err := s.Known(id)
	if err == nil {
		if _, err := os.Stat(a.Dir); err != nil {
			a.Problem = "its files are not here: install it again"
		}
	}
	return a, err
}

// Known returns an app as the state has it. Its lists and maps are shared, and not to be changed.
func (s *Store) Known(id string) (a App, err error) {
	if err := manifest.CheckID(id); err != nil {
		return a, answer.Errorf(answer.BadRequest, "%v", err)
	}
	a, found, err := s.load(id)
	if err != nil {
		return a, err
	}
	if !found {
		return a, answer.Errorf(answer.NotFound, "the app %s is not installed here", id)
	}
	a.Dir = filepath.Join(s.versions(id), strconv.FormatUint(a.Manifest.Sequence, 10)) // the data may have moved
	return a, nil
}

// Describe is Get, and looks whether the provider is still a member.
func (s *Store) Describe(id string) (App, error) {
	a, err := s.Get(id)
	if err != nil || a.Problem != "" {
		return a, err
	}
	if err := s.trusted(&a); err != nil {
		a.Problem = err.Error()
	}
	return a, nil
}

// trusted finds out who signed, and checks that the signature of what is installed is still one of a member. The name of a
// user who was evicted may be that of somebody else by now: they get no upgrade in.
func (s *Store) trusted(a *App) error {
	d, err := s.open(a.Manifest.ID())
	if err != nil {
		return err
	}
	defer d.Close()
	signed, _, err := bundle.Load(d, a.Manifest.Sequence)
	if err != nil {
		return err
	}
	_, by, err := bundle.OpenBy(s.config.Notary, signed)
	if err != nil {
		return answer.Errorf(answer.Denied, "its provider %s was evicted: the app goes on, and is not upgraded any longer", a.Manifest.Provider)
	}
	a.Signer = by.ID
	return nil
}

// versions returns the directory of all versions of an app.
func (s *Store) versions(id string) string {
	return filepath.Join(s.config.Dir, "versions", filepath.FromSlash(id))
}

// DataDir returns the directory that an app writes to.
func (s *Store) DataDir(id string) string {
	return filepath.Join(s.config.Dir, "data", filepath.FromSlash(id))
}

// open opens the directory of an app's versions, and makes it.
func (s *Store) open(id string) (*rooted.Dir, error) {
	if err := os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return nil, err
	}
	root, err := rooted.Open(s.config.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p, err := rooted.ParsePath("versions/" + id)
	if err != nil {
		return nil, err
	}
	return root.MkdirAt(p, 0o755)
}

// acquire makes this goroutine the one that changes an app.
func (s *Store) acquire(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id] {
		return answer.Errorf(answer.Conflict, "the app %s is being changed at this moment", id)
	}
	s.busy[id] = true
	return nil
}

func (s *Store) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
}

// Tidy removes the files of versions that the state does not name. It is for the start. An app that is
// being installed already is left alone.
func (s *Store) Tidy() error {
	for _, id := range s.onDisk() {
		if err := s.tidyUnused(id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) tidyUnused(id string) error {
	if s.acquire(id) != nil {
		return nil // who has it tidies as well
	}
	defer s.release(id)
	a, found, err := s.load(id)
	if err != nil {
		return err
	}
	if !found {
		return s.tidy(id, nil)
	}
	return s.tidy(id, []uint64{a.Manifest.Sequence, a.Previous})
}

// onDisk lists the apps that have a directory.
func (s *Store) onDisk() (ids []string) {
	base := filepath.Join(s.config.Dir, "versions")
	providers, _ := os.ReadDir(base) // none is none
	for _, p := range providers {
		names, _ := os.ReadDir(filepath.Join(base, p.Name()))
		for _, n := range names {
			if id := p.Name() + "/" + n.Name(); manifest.CheckID(id) == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// tidy removes all versions of an app but those of keep.
func (s *Store) tidy(id string, keep []uint64) error {
	if len(keep) == 0 {
		return os.RemoveAll(s.versions(id))
	}
	d, err := s.open(id)
	if err != nil {
		return err
	}
	defer d.Close()
	return bundle.Tidy(d, keep...)
}

// Consent is what the owner has agreed to.
type Consent struct {
	Digest         string // of the offer
	AllowDowngrade bool
	Unconfined     bool // it may run where nothing can hold it
}

// Install makes a signed bundle the current version of its app. What was current is kept for a
// rollback. An error leaves everything as it was.
func (s *Store) Install(signed bundle.Signed, from bundle.Source, c Consent) (App, error) {
	b, err := bundle.Open(s.config.Notary, signed)
	if err != nil {
		return App{}, answer.Errorf(answer.Denied, "%v", err)
	}
	id := b.Manifest.ID()
	if err := s.acquire(id); err != nil {
		return App{}, err
	}
	defer s.release(id)
	digest, err := b.Digest()
	if err != nil {
		return App{}, err
	}
	if c.Digest != hex.EncodeToString(digest) {
		return App{}, answer.Errorf(answer.Conflict, "%s is not the version that was agreed to", b.Manifest.ID())
	}
	old, err := s.before(id)
	if err != nil {
		return App{}, err
	}
	if err := errors.Join(s.allowed(b, digest, &old, c.AllowDowngrade), s.room(&old)); err != nil {
		return App{}, err
	}
	if err := s.unpack(id, signed, from); err != nil {
		return App{}, err
	}
	if err := s.switchTo(next(old, b, digest, c)); err != nil {
		return App{}, err
	}
	return s.Get(id)
}

// room checks that there is room for one more app.
func (s *Store) room(old *App) error {
	keys, err := s.config.State.Keys(key(""))
	if err == nil && old.Manifest.Sequence == 0 && len(keys) >= maxApps {
		err = answer.Errorf(answer.Limit, "there are %d apps here already", maxApps)
	}
	return err
}

// unpack writes the files of a version beside the others. A directory of its number that does not
// belong to the state is of an attempt that did not end, and damaged files are brought back.
func (s *Store) unpack(id string, signed bundle.Signed, from bundle.Source) error {
	d, err := s.open(id)
	if err != nil {
		return err
	}
	defer d.Close()
	b, err := bundle.Read(signed)
	if err != nil {
		return err
	}
	if _, err := bundle.Verify(d, b.Manifest.Sequence); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := bundle.Drop(d, b.Manifest.Sequence); err != nil {
			return err
		}
	}
	if err := bundle.Unpack(d, signed, from); err != nil {
		return answer.Errorf(answer.CodeOf(err), "%v", err)
	}
	return nil
}

// next returns the app with a bundle as its current version.
func next(old App, b *bundle.Bundle, digest []byte, c Consent) App {
	a := old
	if have := old.Manifest.Sequence; have != 0 && have != b.Manifest.Sequence {
		a.Previous = have
	}
	a.Manifest, a.Granted, a.Problem = b.Manifest, b.Manifest.Rights, ""
	a.Unconfined = old.Unconfined || c.Unconfined
	a.Digests = maps.Clone(old.Digests)
	if a.Digests == nil {
		a.Digests = map[string][]byte{}
	}
	a.Digests[strconv.FormatUint(b.Manifest.Sequence, 10)] = digest
	for len(a.Digests) > keptVersions {
		delete(a.Digests, oldest(a.Digests))
	}
	return a
}

// oldest returns the smallest number.
func oldest(digests map[string][]byte) string {
	return slices.MinFunc(slices.Collect(maps.Keys(digests)), func(a, b string) int {
		x, _ := strconv.ParseUint(a, 10, 64)
		y, _ := strconv.ParseUint(b, 10, 64)
		return int(min(max(int64(x)-int64(y), -1), 1))
	})
}

// switchTo makes a the state of its app, and removes the files that it does not need.
func (s *Store) switchTo(a App) error {
	id := a.Manifest.ID()
	if err := s.save(id, &a); err != nil {
		return fmt.Errorf("the version was not switched: %w", err)
	}
	return s.tidy(id, []uint64{a.Manifest.Sequence, a.Previous})
}

// Rollback makes the version before the current one the current one again, and keeps the newer one.
// Its files are checked first.
func (s *Store) Rollback(id string) (App, error) {
	if err := s.acquire(id); err != nil {
		return App{}, err
	}
	defer s.release(id)
	a, err := s.Get(id)
	if err != nil {
		return a, err
	}
	if a.Previous == 0 {
		return a, answer.Errorf(answer.NotFound, "there is no version of %s before this one", id)
	}
	d, err := s.open(id)
	if err != nil {
		return a, err
	}
	defer d.Close()
	b, err := bundle.Verify(d, a.Previous)
	if err != nil {
		return a, answer.Errorf(answer.NotFound, "the version before this one cannot be used: %v", err)
	}
	if more := b.Manifest.Rights.Beyond(a.Granted); len(more) > 0 {
		a.Granted = b.Manifest.Rights // the owner agreed to it, when that version was current
	}
	a.Previous, a.Manifest, a.Problem = a.Manifest.Sequence, b.Manifest, ""
	if err := s.switchTo(a); err != nil {
		return a, err
	}
	return s.Get(id)
}

// Erase removes an app, and what it has written if data is set.
func (s *Store) Erase(id string, data bool) error {
	if err := s.acquire(id); err != nil {
		return err
	}
	defer s.release(id)
	if _, err := s.Get(id); err != nil {
		return err
	}
	if err := s.save(id, nil); err != nil { // it stops the app before its files go
		return err
	}
	err := s.tidy(id, nil)
	if data {
		err = errors.Join(err, os.RemoveAll(s.DataDir(id)))
	}
	return err
}
