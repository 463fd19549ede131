package answer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// said is what a client sees of an answer.
type said struct {
	Status int
	Type   string
	Body   string
}

func record(f func(http.ResponseWriter)) said {
	w := httptest.NewRecorder()
	f(w)
	return said{w.Code, w.Header().Get("Content-Type"), w.Body.String()}
}

func TestTheTextOfAFaultReachesTheLogAlone(t *testing.T) {
	const secret = "/var/lib/ztm/agent.db"
	fault := fmt.Errorf("save: %w", &fs.PathError{Op: "write", Path: secret, Err: errors.New("no space left on device")})
	for name, answer := range map[string]func(http.ResponseWriter, *slog.Logger){
		"Fail":  func(w http.ResponseWriter, log *slog.Logger) { Fail(w, log, fault) },
		"Reply": func(w http.ResponseWriter, log *slog.Logger) { Reply(w, log, "done", fault) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			got := record(func(w http.ResponseWriter) { answer(w, slog.New(slog.NewTextHandler(&log, nil))) })
			want := said{500, "application/json", `{"error":"proxy_internal_error","message":"internal error; the log says more"}`}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the peer sees (-want +got):\n%s", diff)
			}
			if !strings.Contains(log.String(), secret) {
				t.Errorf("the log does not say what failed: %q", log.String())
			}
		})
	}
}

func TestAClientThatHasGoneIsNoFault(t *testing.T) {
	var log bytes.Buffer
	record(func(w http.ResponseWriter) {
		Fail(w, slog.New(slog.NewTextHandler(&log, nil)), fmt.Errorf("ask: %w", context.Canceled))
	})
	if log.Len() > 0 {
		t.Errorf("the log has %q", log.String())
	}
}

func TestAnErrorForPeersIsToldAsItIs(t *testing.T) {
	wrapped := fmt.Errorf("open: %w", Errorf(Denied, "user %s may not", "bob"))
	var log bytes.Buffer
	got := record(func(w http.ResponseWriter) { Fail(w, slog.New(slog.NewTextHandler(&log, nil)), wrapped) })
	if diff := cmp.Diff(said{403, "application/json", `{"error":"http_request_denied","message":"user bob may not"}`}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if log.Len() > 0 {
		t.Errorf("a refusal is no fault, and the log has %q", log.String())
	}
	if back := Parse(got.Status, []byte(got.Body)); back.Code != Denied || back.Message != "user bob may not" {
		t.Errorf("it is read back as %+v", back)
	}
}

func TestAReplyIsTheValueOrNothing(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		value any
		want  said
	}{
		{nil, said{204, "", ""}},
		{[]string{}, said{200, "application/json", "[]"}},
		{map[string]int{"n": 1}, said{200, "application/json", `{"n":1}`}},
	} {
		got := record(func(w http.ResponseWriter) { Reply(w, log, c.value, nil) })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.value, diff)
		}
	}
}

func TestABodyIsReadWholeAndAloneAndWithinItsLimit(t *testing.T) {
	type change struct {
		Users []string `json:"users"`
	}
	for _, c := range []struct{ name, body, wrong string }{
		{"good", `{"users":["bob"]}` + "\n", ""},
		{"at the limit", `{"users":["` + strings.Repeat("x", 50) + `"]}`, ""},
		{"over the limit", `{"users":["` + strings.Repeat("x", 51) + `"]}`, "more than 64 bytes"},
		{"over the limit in blanks", `{}` + strings.Repeat(" ", 63), "more than 64 bytes"},
		{"a misspelt field", `{"user":["bob"]}`, `unknown field "user"`},
		{"two values", `{} {}`, "more after the end"},
		{"no value", ``, "EOF"},
		{"another type", `[]`, "cannot unmarshal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got change
			err := Decode(httptest.NewRequest("POST", "/", strings.NewReader(c.body)), 64, &got)
			switch {
			case c.wrong == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.wrong != "" && (CodeOf(err) != BadRequest || !strings.Contains(err.Error(), c.wrong)):
				t.Errorf("got %v, want a bad request with %q", err, c.wrong)
			}
		})
	}
}

func TestAnAnswerThatIsNotOursNamesItsStatus(t *testing.T) {
	for _, c := range []struct {
		status  int
		body    string
		code    Code
		message string
	}{
		{502, "<html>Bad Gateway</html>", Broken, "the answer is 502 Bad Gateway, without a reason"},
		{404, `{"message":"no"}`, NotFound, "the answer is 404 Not Found, without a reason"},
		{403, `{"error":"http_request_denied"}`, Denied, "http request denied"},
		{409, `{"error":"of_a_later_version","message":"why"}`, "of_a_later_version", "why"},
	} {
		got := Parse(c.status, []byte(c.body))
		if diff := cmp.Diff(&Error{c.code, c.message}, got); diff != "" {
			t.Errorf("%d %s (-want +got):\n%s", c.status, c.body, diff)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code, status := range statuses {
		if http.StatusText(status) == "" || code.Status() != status {
			t.Errorf("%s has the status %d", code, status)
		}
	}
	if Code("unknown").Status() != 500 {
		t.Error("an unknown code is no fault")
	}
}

// FuzzParse: whatever a peer answers is an error with a code and a text, and of no greater size.
func FuzzParse(f *testing.F) {
	f.Add(500, []byte(`{"error":"conflict","message":"x"}`))
	f.Add(404, []byte(`{"error":"conflict"}`))
	f.Add(200, []byte(`null`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := Parse(status, body)
		if e.Code == "" || e.Message == "" {
			t.Errorf("%d %q gives %+v", status, body, e)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if again := Parse(status, b); *again != *e {
			t.Errorf("%+v is read back as %+v", e, again)
		}
	})
}
