package api

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestPathsKeepNamesInTheirSegment(t *testing.T) {
	id := identity.IDOf([]byte("x"))
	for _, tt := range []struct{ name, path, want string }{
		{"plain", MeshPath("demo"), "/api/meshes/demo"},
		{"slash", MeshPath("a/b"), "/api/meshes/a%2Fb"},
		{"up", UserPath("demo", ".."), "/api/meshes/demo/users/%2E%2E"},
		{"here", UserPath(".", "bob"), "/api/meshes/%2E/users/bob"},
		{"query", MeshPath("a?b#c"), "/api/meshes/a%3Fb%23c"},
		{"app", AppPath("demo", id, "tunnel/inbound/tcp/web?x=1"), "/api/meshes/demo/endpoints/" + string(id) + "/apps/tunnel/inbound/tcp/web?x=1"},
		{"flow", FlowPath("demo", id, "terminal/shell", url.Values{"rows": {"24"}}), "/api/meshes/demo/endpoints/" + string(id) + "/flows/terminal/shell?rows=24"},
		{"flow up", FlowPath("demo", id, "terminal/../x", nil), "/api/meshes/demo/endpoints/" + string(id) + "/flows/terminal/%2E%2E/x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.path != tt.want {
				t.Errorf("got %s, want %s", tt.path, tt.want)
			}
			if _, err := url.ParseRequestURI(tt.path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFilterSurvivesItsQuery(t *testing.T) {
	for _, f := range []apps.Filter{
		{},
		{Name: "a&b=c", User: "bob", Offer: "tunnel/tcp/web", Keyword: "ä ", Online: true, Limit: 5, Offset: 7},
	} {
		_, query, _ := strings.Cut(EndpointsPath("demo", f), "?")
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseFilter(q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, got); diff != "" {
			t.Errorf("filter (-want +got):\n%s", diff)
		}
	}
}

func TestParseFilterRefusesWhatIsNoCount(t *testing.T) {
	for _, query := range []string{"limit=-1", "limit=x", "offset=1.5", "online=maybe"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFilter(q); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%s: got %v, want a bad request", query, err)
		}
	}
}
