package shelf

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// fake is a cloud with one directory. It keeps what it was asked.
type fake struct {
	asked  []string
	files  func() []map[string]any
	errs   map[string]error // by the last word of the path
	failed string           // of each file that is erased
}

func (f *fake) Call(_ context.Context, method, path string, _, out any) error {
	f.asked = append(f.asked, method+" "+path)
	if list, ok := out.(*[]File); ok && f.files != nil {
		for _, file := range f.files() {
			size, _ := file["size"].(int)
			state, _ := file["state"].(string)
			*list = append(*list, File{Path: file["path"].(string), Size: int64(size), State: cmp.Or(state, "synced")})
		}
	}
	if results, ok := out.(*[]result); ok {
		*results = []result{{Path: "x", Error: f.failed}}
	}
	return f.errs[strings.TrimPrefix(path, App+"/")]
}

func (f *fake) Open(context.Context, string, url.Values) (net.Conn, error) {
	return nil, answer.Errorf(answer.NotFound, "there is nothing to open")
}

// newShelf is the files of the app bob/notes at an endpoint of alice.
func newShelf(f *fake) *Shelf {
	return &Shelf{Cloud: f, ID: "bob/notes", User: "alice", Users: func(context.Context) ([]string, error) { return []string{"alice"}, nil },
		Room: &Room{}, Bytes: 10 << 20, Files: 3}
}

func TestAPathOfAProgramLeadsNowhereButBelowItsOwnDirectory(t *testing.T) {
	for _, path := range []string{"/v1/files/..", "/v1/files/a/../../../x", "/v1/files//x", "/v1/files/a//b", `/v1/files/a\..\b`, "/v1/files/a/.", "/v1/files/a\x00", "/v1/files/a/"} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			f := &fake{}
			r := httptest.NewRequest(method, "/", strings.NewReader("{}"))
			r.URL.Path = path
			if method == http.MethodPatch {
				r.URL.Path = strings.Replace(path, "files", "readers", 1)
			}
			if path == "/v1/files/a/" && method == http.MethodPatch {
				continue // a directory has readers
			}
			if _, err := newShelf(f).Serve(httptest.NewRecorder(), r); answer.CodeOf(err) != answer.BadRequest || len(f.asked) > 0 {
				t.Errorf("%s %q: %v, and the cloud was asked %v", method, path, err, f.asked)
			}
		}
	}
}

func TestWhatAnAppHasInTheCloudIsLimitedWithWhatIsOnItsWay(t *testing.T) {
	const mb = 1 << 20
	at := "/users/alice/app-data/bob/notes/"
	here := func(list ...map[string]any) func() []map[string]any { return func() []map[string]any { return list } }
	file := func(name string, size int, state string) map[string]any {
		return map[string]any{"path": at + name, "size": size, "state": state}
	}
	for what, tt := range map[string]struct {
		files  func() []map[string]any
		coming int64 // bytes of a file that is on its way
		size   int64 // -1: as published
		ok     bool
	}{
		"there is room":              {here(file("b", 4*mb, "synced")), 0, 6 * mb, true},
		"a byte too many":            {here(file("b", 4*mb, "synced")), 0, 6*mb + 1, false},
		"it takes the place of one":  {here(file("a", 9*mb, "synced")), 0, 10 * mb, true},
		"one that is not here":       {here(file("b", 9*mb, "missing")), 0, 10 * mb, true},
		"another is on its way":      {here(), 5 * mb, 6 * mb, false},
		"three files are here":       {here(file("b", 1, "synced"), file("c", 1, "synced"), file("d", 1, "synced")), 0, 1, false},
		"it is here already":         {here(file("a", 6*mb, "synced"), file("b", 9*mb, "synced")), 0, -1, true},
		"it is here, but old":        {here(file("a", 6*mb, "outdated"), file("b", 9*mb, "synced")), 0, -1, false},
		"it is fetched":              {here(file("a", 6*mb, "missing"), file("b", 4*mb, "synced")), 0, -1, true},
		"it is fetched and too long": {here(file("a", 7*mb, "missing"), file("b", 4*mb, "synced")), 0, -1, false},
	} {
		s := newShelf(&fake{files: tt.files})
		if tt.coming > 0 {
			s.Room.takeLocked(name{"alice", "z"}, tt.coming)
		}
		release, err := s.place(t.Context(), "alice", "a", tt.size)
		if ok := err == nil; ok != tt.ok || !ok && answer.CodeOf(err) != answer.Limit {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if err == nil {
			release()
		}
		if bytes, _ := s.Room.used(nil, name{}); bytes != tt.coming {
			t.Errorf("%s: %d bytes are on their way at the end", what, bytes)
		}
	}
}

func TestAFileThatComesForTwoRequestsTakesItsRoomOnce(t *testing.T) {
	const mb = 1 << 20
	at := "/users/alice/app-data/bob/notes/"
	var state string
	s := newShelf(&fake{files: func() []map[string]any {
		return []map[string]any{{"path": at + "a", "size": 6 * mb, "state": state}, {"path": at + "b", "size": 1 * mb, "state": "missing"}}
	}})
	take := func(what, path string, size int64) (release func()) {
		t.Helper()
		release, err := s.place(t.Context(), "alice", path, size)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return release
	}
	state = "missing"
	first := take("a fetched", "a", -1)
	state = "downloading"
	second := take("a fetched twice", "a", -1)
	third := take("b fetched beside it", "b", -1)
	if _, err := s.place(t.Context(), "alice", "c", 4*mb); answer.CodeOf(err) != answer.Limit {
		t.Errorf("eleven of ten were taken: %v", err)
	}
	first()
	state = "synced" // its answer is still being sent
	fourth := take("three beside seven", "c", 3*mb)
	second()
	third()
	fourth()
	if bytes, files := s.Room.used(nil, name{}); bytes != 0 || files != 0 {
		t.Errorf("%d files of %d bytes are on their way at the end", files, bytes)
	}
}

func TestWhoWatchesHearsOfEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		names := []string{"a", "b"}
		f := &fake{}
		f.files = func() (list []map[string]any) {
			mu.Lock()
			defer mu.Unlock()
			for _, name := range names {
				list = append(list, map[string]any{"path": "/users/alice/app-data/bob/notes/" + name})
			}
			return list
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*watchEvery+watchEvery/2)
		defer cancel()
		w := httptest.NewRecorder()
		go func() {
			<-time.After(watchEvery / 2)
			mu.Lock()
			defer mu.Unlock()
			names = []string{"b", "c"}
		}()
		if _, err := newShelf(f).Serve(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/watch", nil)); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
		if len(lines) != 2 || strings.Count(lines[0], "synced") != 2 || !strings.Contains(lines[1], `"path":"c"`) || !strings.Contains(lines[1], `"path":"a","size":0,"time":"","state":"gone"`) {
			t.Errorf("it hears %q", lines)
		}
	})
}

func TestAFileThatWasTakenBackIsGoneAndOneThatIsStillHereIsTold(t *testing.T) {
	none, broken := answer.Errorf(answer.NotFound, "there is none"), answer.Errorf(answer.Unavailable, "it is broken")
	for name, tt := range map[string]struct {
		unpublish, erase error
		failed           string
		want             answer.Code
	}{
		"both":                   {},
		"no copy here":           {erase: none},
		"a copy of an old file":  {unpublish: none},
		"no such file":           {unpublish: none, erase: none, want: answer.NotFound},
		"not taken back":         {unpublish: broken, want: answer.Unavailable},
		"the copy is in use":     {failed: "it is in use", want: answer.Unavailable},
		"the cloud cannot erase": {erase: broken, want: answer.Unavailable},
	} {
		f := &fake{errs: map[string]error{"unpublish": tt.unpublish, "erase?offline=1": tt.erase}, failed: tt.failed}
		if _, err := newShelf(f).Serve(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, "/v1/files/a", nil)); answer.CodeOf(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherEndpointsAreAskedOnceForAListOfAllUsers(t *testing.T) {
	f := &fake{}
	s := newShelf(f)
	s.Users = func(context.Context) ([]string, error) { return []string{"alice", "bob", "carol"}, nil }
	if _, err := s.Serve(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/files/", nil)); err != nil {
		t.Fatal(err)
	}
	asking := 0
	for _, request := range f.asked {
		if !strings.Contains(request, "offline=1") {
			asking++
		}
	}
	if len(f.asked) != 3 || asking != 1 {
		t.Errorf("the cloud was asked %v", f.asked)
	}
}
