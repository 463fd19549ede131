package kube

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/agent/kube/cluster"
	"ztm/agent/kube/kubetest"
)

// authority is an API server as its administrator sees it, and the account of an agent there.
type authority struct {
	admin *cluster.Client
	// issue returns a new token of the account, and what ends that token.
	issue func(t *testing.T) (token string, revoke func())
	grant func(t *testing.T, may bool) // gives the account its rights, or takes them
	// dismiss deletes the account and makes it again: what it was given is good for nobody.
	dismiss func(t *testing.T)
}

// space is the namespace of the account.
const space = "suite-ztm"

// newAuthority returns the API server that the suite is for: a real one if ZTM_KUBE_SERVER is its
// address, with the token of an administrator in the file ZTM_KUBE_TOKEN and its certificates in the
// file ZTM_KUBE_CA; else the small one of package kubetest.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	server := os.Getenv("ZTM_KUBE_SERVER")
	if server == "" {
		return smallAuthority(t)
	}
	ca, err := os.ReadFile(os.Getenv("ZTM_KUBE_CA"))
	if err != nil {
		t.Fatal(err)
	}
	return realAuthority(t, cluster.Config{Server: server, CA: ca, Token: cluster.TokenFile(os.Getenv("ZTM_KUBE_TOKEN"))})
}

func (a *authority) connect(t *testing.T, c cluster.Config) {
	t.Helper()
	var err error
	if a.admin, err = cluster.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.admin.Close)
}

// guard is what the small server lets whom do.
type guard struct {
	mu     sync.Mutex
	tokens map[string]bool // false: it has ended; guarded by mu
	may    bool            // the account; guarded by mu
}

func (g *guard) refuse(r *http.Request) *kubetest.Failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !g.tokens[token]:
		return &kubetest.Failure{Code: http.StatusUnauthorized}
	case token != "admin" && !g.may:
		return &kubetest.Failure{Code: http.StatusForbidden}
	}
	return nil
}

func (g *guard) issue(*testing.T) (token string, revoke func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	token = fmt.Sprint("token-", len(g.tokens))
	g.tokens[token] = true
	return token, func() { g.mu.Lock(); defer g.mu.Unlock(); g.tokens[token] = false }
}

func (g *guard) grant(_ *testing.T, may bool) { g.mu.Lock(); defer g.mu.Unlock(); g.may = may }

func (g *guard) dismiss(*testing.T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for token := range g.tokens {
		g.tokens[token] = token == "admin"
	}
}

func smallAuthority(t *testing.T) *authority {
	server, g := &kubetest.Server{}, &guard{tokens: map[string]bool{"admin": true}}
	server.Fail(g.refuse)
	web := httptest.NewServer(server)
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	a := &authority{issue: g.issue, grant: g.grant, dismiss: g.dismiss}
	a.connect(t, cluster.Config{Server: web.URL, Token: func() (string, error) { return "admin", nil }})
	return a
}

// realAuthority has accounts and rules as a cluster has them. A token is bound to a Secret, and ends
// with it.
func realAuthority(t *testing.T, c cluster.Config) *authority {
	a := &authority{}
	a.connect(t, c)
	const (
		account = "/api/v1/namespaces/" + space + "/serviceaccounts/agent"
		rbac    = "/apis/rbac.authorization.k8s.io/v1/"
	)
	a.apply(t, "/api/v1/namespaces/"+space, `{"apiVersion":"v1","kind":"Namespace"}`)
	a.apply(t, account, `{"apiVersion":"v1","kind":"ServiceAccount"}`)
	a.apply(t, rbac+"clusterroles/"+space, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","rules":[
		{"apiGroups":[""],"resources":["services","namespaces"],"verbs":["list","watch"]},{"apiGroups":[""],"resources":["events"],"verbs":["create"]},
		{"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"],"verbs":["list","watch","create","patch","delete"]}]}`)
	a.issue = func(t *testing.T) (string, func()) {
		name := fmt.Sprint("token-", time.Now().UnixNano())
		path := "/api/v1/namespaces/" + space + "/secrets/" + name
		a.apply(t, path, `{"apiVersion":"v1","kind":"Secret"}`)
		var out struct{ Status struct{ Token string } }
		in := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
			"spec": map[string]any{"boundObjectRef": map[string]string{"apiVersion": "v1", "kind": "Secret", "name": name}}}
		if err := a.admin.Do(t.Context(), http.MethodPost, account+"/token", nil, "application/json", in, &out); err != nil {
			t.Fatal(err)
		}
		return out.Status.Token, func() { a.remove(t, path) }
	}
	a.dismiss = func(t *testing.T) {
		a.remove(t, account)
		a.apply(t, account, `{"apiVersion":"v1","kind":"ServiceAccount"}`)
	}
	a.grant = func(t *testing.T, may bool) {
		if !may {
			a.remove(t, rbac+"clusterrolebindings/"+space)
			return
		}
		a.apply(t, rbac+"clusterrolebindings/"+space, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","roleRef":{"apiGroup":"rbac.authorization.k8s.io",
			"kind":"ClusterRole","name":"`+space+`"},"subjects":[{"kind":"ServiceAccount","name":"agent","namespace":"`+space+`"}]}`)
	}
	return a
}

// apply makes an object what text says. Its name is that of the path.
func (a *authority) apply(t *testing.T, path, text string) {
	t.Helper()
	name := path[strings.LastIndex(path, "/")+1:]
	if _, rest, ok := strings.Cut(text, `"metadata":{`); ok {
		before, _, _ := strings.Cut(text, `"metadata":{`)
		text = before + fmt.Sprintf(`"metadata":{"name":%q,`, name) + rest
	} else {
		text = strings.TrimSuffix(text, "}") + fmt.Sprintf(`,"metadata":{"name":%q}}`, name)
	}
	q := url.Values{"fieldManager": {"suite"}, "force": {"true"}}
	if err := a.admin.Do(t.Context(), http.MethodPatch, path, q, "application/apply-patch+yaml", jsonText(text), nil); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// jsonText is an object that is written as JSON already.
type jsonText string

func (j jsonText) MarshalJSON() ([]byte, error) { return []byte(j), nil }

// remove deletes an object, if it is there.
func (a *authority) remove(t *testing.T, path string) {
	t.Helper()
	if err := a.admin.Do(t.Context(), http.MethodDelete, path, nil, "", nil, nil); err != nil && cluster.CodeOf(err) != http.StatusNotFound {
		t.Fatalf("%s: %v", path, err)
	}
}
