package manifest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// sample returns a manifest that is right.
func sample() Manifest {
	return Manifest{Provider: "alice", Name: "guests", Version: "1.0", Sequence: 1,
		Exec: map[string][]string{"linux/amd64": {"bin/guests", "-v"}, "any": {"guests.sh"}}}
}

func TestAManifestThatIsRightIsAccepted(t *testing.T) {
	m := sample()
	m.Rights = Rights{Net: AnyNet, Exec: true, Apps: []string{"bob/chat"}, Autostart: true, Memory: 64 << 20, Processes: 8}
	m.Command, m.Page = "sign the book", "/book"
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrongWithAManifestIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Manifest){
		"no provider":              func(m *Manifest) { m.Provider = "" },
		"a provider that climbs":   func(m *Manifest) { m.Provider = ".." },
		"a name with a slash":      func(m *Manifest) { m.Name = "a/b" },
		"a name that climbs":       func(m *Manifest) { m.Name = ".." },
		"300 characters":           func(m *Manifest) { m.Name = strings.Repeat("a", 300) },
		"no version":               func(m *Manifest) { m.Version = "" },
		"a version with an escape": func(m *Manifest) { m.Version = "\x1b[2J" },
		"no sequence":              func(m *Manifest) { m.Sequence = 0 },
		"no program":               func(m *Manifest) { m.Exec = nil },
		"an empty program":         func(m *Manifest) { m.Exec = map[string][]string{"any": {""}} },
		"a page elsewhere":         func(m *Manifest) { m.Page = "//evil.example" },
		"a page by a backslash":    func(m *Manifest) { m.Page = `/\evil.example` },
		"a page without a slash":   func(m *Manifest) { m.Page = "javascript:x" },
		"a command of two lines":   func(m *Manifest) { m.Command = "says\nmore" },
		"a command that is long":   func(m *Manifest) { m.Command = strings.Repeat("a", 129) },
		"no words":                 func(m *Manifest) { m.Exec = map[string][]string{"any": {}} },
		"a program elsewhere":      func(m *Manifest) { m.Exec = map[string][]string{"any": {"/bin/sh"}} },
		"a program that climbs":    func(m *Manifest) { m.Exec = map[string][]string{"any": {"../sh"}} },
		"a program of windows":     func(m *Manifest) { m.Exec = map[string][]string{"any": {`c:\sh`}} },
		"an argument with a NUL":   func(m *Manifest) { m.Exec = map[string][]string{"any": {"sh", "\x00"}} },
		"too many words":           func(m *Manifest) { m.Exec = map[string][]string{"any": make([]string, 65)} },
		"another network":          func(m *Manifest) { m.Rights.Net = "some" },
		"an app without provider":  func(m *Manifest) { m.Rights.Apps = []string{"chat"} },
		"an app that climbs":       func(m *Manifest) { m.Rights.Apps = []string{"../chat"} },
		"negative memory":          func(m *Manifest) { m.Rights.Memory = -1 },
		"no memory to start with":  func(m *Manifest) { m.Rights.Memory = 1 },
		"too many processes":       func(m *Manifest) { m.Rights.Processes = 5000 },
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			spoil(&m)
			if err := m.Check(); !errors.Is(err, ErrInvalid) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

func TestTheNearestProgramOfASystemIsChosen(t *testing.T) {
	m := sample()
	m.Exec["linux"] = []string{"linux.sh"}
	for system, want := range map[string]string{"linux amd64": "bin/guests", "linux mipsle": "linux.sh", "darwin arm64": "guests.sh"} {
		goos, goarch, _ := strings.Cut(system, " ")
		if words, ok := m.Program(goos, goarch); !ok || words[0] != want {
			t.Errorf("%s: %q, want %q", system, words, want)
		}
	}
	delete(m.Exec, "any")
	if words, ok := m.Program("darwin", "arm64"); ok {
		t.Errorf("a system that the app has nothing for: %q", words)
	}
}

func TestRightsThatGrowAreNamed(t *testing.T) {
	old := Rights{Apps: []string{"bob/chat"}, Memory: 64 << 20}
	if more := old.Beyond(old); len(more) != 0 {
		t.Errorf("rights that are the same: %q", more)
	}
	grown := Rights{Net: AnyNet, Exec: true, Apps: []string{"bob/chat", "bob/mail"}, Autostart: true, Processes: 100}
	want := []string{"use the network of this device", "run the programs of this device", "reach the app bob/mail at other endpoints",
		"run whenever the agent does", "hold 256 MB of memory in each process", "run 100 processes"}
	if more := grown.Beyond(old); !slices.Equal(more, want) {
		t.Errorf("rights that grew: %q", more)
	}
}

// FuzzManifest: whatever passes Check names its program below the directory of the app, and is
// known by two names.
func FuzzManifest(f *testing.F) {
	b, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"provider":"a","name":"b","version":"1","sequence":1,"exec":{"any":["a/../../b"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Manifest
		if json.Unmarshal(b, &m) != nil || m.Check() != nil {
			return
		}
		if CheckID(m.ID()) != nil || strings.Count(m.ID(), "/") != 1 {
			t.Errorf("ID %q", m.ID())
		}
		for _, words := range m.Exec {
			if p := words[0]; strings.HasPrefix(p, "/") || slices.Contains(strings.Split(p, "/"), "..") {
				t.Errorf("program %q", p)
			}
		}
	})
}
