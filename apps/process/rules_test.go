package process

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
)

func TestOnlyTheOwnerAndNamedUsersAreAdmitted(t *testing.T) {
	self := apps.Endpoint{Name: "ep-office", User: "alice"}
	rules := Rules{Users: []string{"bob"}}
	tests := []struct {
		name, user string
		want       error
	}{
		{"the owner", "alice", nil},
		{"a named user", "bob", nil},
		{"somebody else", "carol", answer.Errorf(answer.Denied, `user "carol" may not run programs on ep-office; `+
			`its owner can allow it with: ztm ep ep-office terminal config --add-user carol`)},
		{"nobody", "", answer.Errorf(answer.Denied, `user "" may not run programs on ep-office; `+
			`its owner can allow it with: ztm ep ep-office terminal config --add-user `)},
		{"a name that begins the same", "alice2", answer.Errorf(answer.Denied, `user "alice2" may not run programs on ep-office; `+
			`its owner can allow it with: ztm ep ep-office terminal config --add-user alice2`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, rules.Admit(self, "terminal", apps.Peer{User: tt.user}, plain)); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGuestMayNotChooseTheAccount(t *testing.T) {
	self := apps.Endpoint{Name: "ep", User: "alice"}
	if _, err := (Rules{}).Account(self, apps.Peer{User: "bob"}, "root"); answer.CodeOf(err) != answer.Denied {
		t.Errorf("error %v, want %s", err, answer.Denied)
	}
	if _, err := (Rules{}).Account(self, apps.Peer{User: "alice"}, "no-such-account"); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("error %v, want %s", err, answer.NotFound)
	}
}

func TestRulesAreChangedThroughTheAPI(t *testing.T) {
	state := stateOf(t)
	tests := []struct {
		name, method, body string
		status             int
		want               string
	}{
		{"at first", "GET", "", 200, `{}`},
		{"users are added, sorted, once", "PATCH", `{"addUsers":["zoe","bob","bob"]}`, 200, `{"users":["bob","zoe"]}`},
		{"a limit keeps the users", "PATCH", `{"maxSessions":3}`, 200, `{"users":["bob","zoe"],"maxSessions":3}`},
		{"a user is removed", "PATCH", `{"removeUsers":["zoe"]}`, 200, `{"users":["bob"],"maxSessions":3}`},
		{"a user who is not there", "PATCH", `{"removeUsers":["nobody"]}`, 404, `{"error":"destination_not_found","message":"there is no user \"nobody\" to remove"}`},
		{"a name that is none", "PATCH", `{"addUsers":["a b"]}`, 400, `{"error":"http_request_error","message":"name \"a b\" may hold letters, digits and ._@- only"}`},
		{"a group without a name", "PATCH", `{"addUsers":["group:"]}`, 400, `{"error":"http_request_error","message":"name is empty"}`},
		{"a group is no user", "PATCH", `{"addUsers":["@grp"]}`, 400, `{"error":"http_request_error","message":"name \"@grp\" must start with a letter or digit"}`},
		{"a misspelt field", "PATCH", `{"runas":"x","nope":1}`, 400, `{"error":"http_request_error","message":"request body: json: unknown field \"nope\""}`},
		{"an unknown account", "PATCH", `{"runAs":"no-such"}`, 404, `{"error":"destination_not_found","message":"this endpoint has no account \"no-such\""}`},
		{"a failed change changes nothing", "GET", "", 200, `{"users":["bob"],"maxSessions":3}`},
		{"another method", "DELETE", "", 400, `{"error":"http_request_error","message":"settings are not changed with DELETE"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := settings.API(&settings.Value[Rules]{State: state}, slog.New(slog.DiscardHandler), (*Rules).Apply, nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tt.method, "/config", strings.NewReader(tt.body)))
			body, _ := io.ReadAll(w.Body)
			if w.Code != tt.status || strings.TrimSpace(string(body)) != tt.want {
				t.Errorf("answer %d %s, want %d %s", w.Code, body, tt.status, tt.want)
			}
		})
	}
}

// stateOf returns an empty state.
func stateOf(t *testing.T) (state apps.State) {
	var n appstest.Net
	n.Join("ep", "alice").New("x", func(h apps.Host) apps.App { state = h.State; return nil })
	return state
}

// plain is the [apps.Names] of a mesh without groups.
func plain(p apps.Peer, who []string) bool { return slices.Contains(who, p.User) }
