package settings

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

var errDisk = errors.New("the disk is full")

// memory is a state in memory.
type memory struct {
	values map[string][]byte
	full   bool
}

func (m *memory) Load(key string, v any) (bool, error) {
	b, ok := m.values[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

func (m *memory) Save(key string, v any) error {
	if m.full {
		return errDisk
	}
	b, err := json.Marshal(v)
	if err == nil {
		m.values[key] = b
	}
	return err
}

func (m *memory) SaveAll(values map[string]any) error { panic("settings are saved one by one") }

func (m *memory) Delete(key string) error { delete(m.values, key); return nil }

func (m *memory) Keys(prefix string) (keys []string, err error) {
	for k := range m.values {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// list is a setting: words in capitals, of which "NO" is invalid.
type list struct{ Words []string }

func check(l *list) error {
	for i, w := range l.Words {
		if l.Words[i] = strings.ToUpper(w); l.Words[i] == "NO" {
			return errors.New("NO is no word")
		}
	}
	return nil
}

func add(word string) func(*list) error {
	return func(l *list) error { l.Words = append(l.Words, word); return nil }
}

func TestAChangeIsInForceExactlyIfItIsSaved(t *testing.T) {
	fail := errors.New("fail")
	for _, tt := range []struct {
		name    string
		full    bool
		edit    func(*list) error
		prepare error
		err     error
		code    answer.Code // of err, if it is for a peer
		calls   string
		want    []string
	}{
		{"a change", false, add("b"), nil, nil, "", "prepare [A] [A B], commit", []string{"A", "B"}},
		{"one that is no change", false, func(*list) error { return nil }, nil, nil, "", "prepare [A] [A], commit", []string{"A"}},
		{"edit refuses", false, func(l *list) error { l.Words[0] = "x"; return fail }, nil, fail, "", "", []string{"A"}},
		{"it is not valid", false, add("no"), nil, nil, answer.BadRequest, "", []string{"A"}},
		{"it cannot be in force", false, add("b"), fail, fail, "", "prepare [A] [A B]", []string{"A"}},
		{"it cannot be saved", true, add("b"), nil, errDisk, "", "prepare [A] [A B], drop", []string{"A"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &memory{values: map[string][]byte{}}
			v := &Value[list]{State: m, Check: check}
			if _, err := v.Change(add("a"), nil); err != nil {
				t.Fatal(err)
			}
			m.full = tt.full
			var calls []string
			call := func(s string) func() { return func() { calls = append(calls, s) } }
			_, err := v.Change(tt.edit, func(before, after list) (Prepared, error) {
				call("prepare [" + strings.Join(before.Words, " ") + "] [" + strings.Join(after.Words, " ") + "]")()
				return Prepared{Commit: call("commit"), Drop: call("drop")}, tt.prepare
			})
			if tt.code != "" && answer.CodeOf(err) != tt.code || tt.code == "" && !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v %v", err, tt.err, tt.code)
			}
			if got := strings.Join(calls, ", "); got != tt.calls {
				t.Errorf("called: %s; want %s", got, tt.calls)
			}
			if got, err := v.Get(); err != nil || !slices.Equal(got.Words, tt.want) {
				t.Errorf("saved: %q, %v; want %q", got.Words, err, tt.want)
			}
		})
	}
}

func TestASavedValueThatIsNotValidIsAnErrorAndNotNothing(t *testing.T) {
	for _, text := range []string{`{"Words":["NO"]}`, `{"Words":1}`, `x`} {
		m := &memory{values: map[string][]byte{"config": []byte(text)}}
		v := &Value[list]{State: m, Check: check}
		if got, err := v.Get(); err == nil {
			t.Errorf("%s was read as %+v", text, got)
		}
		if _, err := v.Change(func(l *list) error { return nil }, nil); err == nil || string(m.values["config"]) != text {
			t.Errorf("%s was changed to %s, %v", text, m.values["config"], err)
		}
	}
}

func TestATableGoesOnAfterASettingThatIsNotValid(t *testing.T) {
	m := &memory{values: map[string][]byte{"in/b": []byte(`{"Words":["NO"]}`), "out/x": []byte(`{}`)}}
	table := &Table[list]{State: m, Prefix: "in/", Check: check}
	for _, name := range []string{"c", "a"} {
		if err := table.Set(name, list{[]string{name}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := table.Each(func(name string, l list) { got = append(got, name+"="+strings.Join(l.Words, " ")) })
	if diff := cmp.Diff([]string{"a=A", "c=C"}, got); diff != "" || err == nil || !strings.Contains(err.Error(), `"in/b"`) {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := table.Set("a", list{[]string{"no"}}, nil); answer.CodeOf(err) != answer.BadRequest {
		t.Errorf("a setting that is not valid: %v", err)
	}
	if err := errors.Join(table.Delete("a"), table.Delete("a")); err != nil {
		t.Error(err)
	}
	dropped := false
	m.full = true
	err = table.Set("d", list{}, func(list) (Prepared, error) { return Prepared{Drop: func() { dropped = true }}, nil })
	if !errors.Is(err, errDisk) || !dropped {
		t.Errorf("a setting that cannot be saved: %v, dropped: %v", err, dropped)
	}
}

func TestAValueIsChangedThroughTheAPI(t *testing.T) {
	type change struct{ Add string }
	v := &Value[list]{State: &memory{values: map[string][]byte{}}, Check: check}
	h := API(v, slog.New(slog.DiscardHandler), func(l *list, c change) error { return add(c.Add)(l) }, nil)
	for _, tt := range []struct {
		name, method, body string
		status             int
		want               string
	}{
		{"at first", "GET", "", 200, `{"Words":null}`},
		{"a change", "PATCH", `{"Add":"a"}`, 200, `{"Words":["A"]}`},
		{"one that is not valid", "PATCH", `{"Add":"no"}`, 400, `{"error":"http_request_error","message":"NO is no word"}`},
		{"a misspelt field", "PATCH", `{"Ad":"b"}`, 400, `{"error":"http_request_error","message":"request body: json: unknown field \"Ad\""}`},
		{"after that", "GET", "", 200, `{"Words":["A"]}`},
		{"another method", "DELETE", "", 400, `{"error":"http_request_error","message":"settings are not changed with DELETE"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body)))
			body, err := io.ReadAll(w.Body)
			if got := strings.TrimSpace(string(body)); err != nil || w.Code != tt.status || got != tt.want {
				t.Errorf("answer %d %s, want %d %s", w.Code, got, tt.status, tt.want)
			}
		})
	}
}
