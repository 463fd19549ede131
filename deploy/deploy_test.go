// Package deploy holds the manifests for Kubernetes, and the test that they say one thing.
//
//	kubernetes/agent   plain manifests, the source of all
//	helm/ztm           the chart: the same with four values; go test ./deploy -update writes it
package deploy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the chart from the manifests")

// values are what the chart lets people choose: the text in the manifests, and what replaces it.
var values = []struct{ plain, template string }{
	{"image: ztm:latest", "image: {{ .Values.image }}"},
	{"--join=demo", "--join={{ .Values.mesh }}"},
	{"replicas: 2", "replicas: {{ .Values.replicas }}"},
	{"secretName: ztm-token", "secretName: {{ .Values.secret }}"},
	{"namespace: ztm\n", "namespace: {{ .Release.Namespace }}\n"},
	{"--kube-replicas=ztm/", "--kube-replicas={{ .Release.Namespace }}/"},
}

const source, templates = "kubernetes/agent", "helm/ztm/templates"

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// chart returns the templates of the chart, by name. Helm makes the namespace by itself.
func chart(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(source + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string]string{}
	for _, f := range files {
		name := filepath.Base(f)
		if name == "kustomization.yaml" || name == "namespace.yaml" {
			continue
		}
		text := read(t, f)
		for _, v := range values {
			text = strings.ReplaceAll(text, v.plain, v.template)
		}
		out[name] = text
	}
	return out
}

func TestTheChartIsTheManifestsWithValues(t *testing.T) {
	want := chart(t)
	for name, text := range want {
		path := filepath.Join(templates, name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if read(t, path) != text {
			t.Errorf("%s is not what the manifests say: go test ./deploy -update", path)
		}
	}
	there, _ := filepath.Glob(templates + "/*")
	for _, path := range there {
		if want[filepath.Base(path)] == "" {
			t.Errorf("%s comes from no manifest", path)
		}
	}
}

// TestTheChartWithItsValuesIsTheManifests renders the templates, as far as ours go.
func TestTheChartWithItsValuesIsTheManifests(t *testing.T) {
	var set map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "helm/ztm/values.yaml")), &set); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	place := regexp.MustCompile(`\{\{ \.(\w+)\.(\w+) \}\}`)
	for name, text := range chart(t) {
		rendered := place.ReplaceAllStringFunc(text, func(s string) string {
			m := place.FindStringSubmatch(s)
			if m[1] == "Release" {
				return "ztm"
			}
			used[m[2]] = true
			b, _ := yaml.Marshal(set[m[2]])
			return strings.TrimSpace(string(b))
		})
		if rendered != read(t, filepath.Join(source, name)) {
			t.Errorf("%s with the values of the chart is another manifest", name)
		}
	}
	for name := range set {
		if !used[name] {
			t.Errorf("no template uses the value %s", name)
		}
	}
}

// objects reads all objects of a directory.
func objects(t *testing.T, dir string) (list []map[string]any) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		d := yaml.NewDecoder(strings.NewReader(read(t, f)))
		d.KnownFields(true)
		for {
			var o map[string]any
			if d.Decode(&o) != nil {
				break
			}
			if o["kind"] == nil || o["apiVersion"] == nil {
				t.Errorf("%s: an object without a kind", f)
			}
			list = append(list, o)
		}
	}
	return list
}

// at follows keys, and numbers of lists, into an object.
func at(o any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := o.(map[string]any)
			o = m[p]
		case int:
			l, _ := o.([]any)
			if p >= len(l) {
				return nil
			}
			o = l[p]
		}
	}
	return o
}

func TestEveryManifestIsListed(t *testing.T) {
	for _, dir := range []string{"kubernetes/agent", "kubernetes/import", "kubernetes/access", "kubernetes/network", "kubernetes/hub"} {
		var k struct{ Resources []string }
		if err := yaml.Unmarshal([]byte(read(t, dir+"/kustomization.yaml")), &k); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(dir + "/*.yaml")
		for i, f := range files {
			files[i] = filepath.Base(f)
		}
		files = slices.DeleteFunc(files, func(f string) bool { return f == "kustomization.yaml" })
		slices.Sort(k.Resources)
		if !slices.Equal(files, k.Resources) {
			t.Errorf("%s has %q and lists %q", dir, files, k.Resources)
		}
	}
}

// The standard "restricted" of Kubernetes, as far as our pods touch it.
func TestPodsAreRestricted(t *testing.T) {
	pods := 0
	for _, o := range slices.Concat(objects(t, "kubernetes/agent"), objects(t, "kubernetes/access"), objects(t, "kubernetes/hub")) {
		if o["kind"] != "Deployment" {
			continue
		}
		pods++
		pod := at(o, "spec", "template", "spec")
		c := at(pod, "containers", 0, "securityContext")
		for what, ok := range map[string]bool{
			"it may be root":               at(pod, "securityContext", "runAsNonRoot") == true && at(pod, "securityContext", "runAsUser") == 65532,
			"no seccomp profile":           at(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault",
			"privileges may grow":          at(c, "allowPrivilegeEscalation") == false,
			"the root can be written":      at(c, "readOnlyRootFilesystem") == true,
			"capabilities are kept":        at(c, "capabilities", "drop", 0) == "ALL",
			"its data are not its own":     at(pod, "containers", 0, "env", 0, "value") == "/var/lib/ztm/data" && at(pod, "containers", 0, "volumeMounts", 0, "mountPath") == "/var/lib/ztm",
			"it uses the node's network":   at(pod, "hostNetwork") == nil,
			"memory has no limit":          at(pod, "containers", 0, "resources", "limits", "memory") != nil,
			"the grace is shorter than 60": at(pod, "terminationGracePeriodSeconds") == 60,
		} {
			if !ok {
				t.Errorf("%v: %s", at(o, "metadata", "name"), what)
			}
		}
	}
	if pods != 3 {
		t.Errorf("%d Deployments", pods)
	}
}

// The rights of the agent's account are these and no others.
func TestTheAccountHasTheLeastRights(t *testing.T) {
	var got []string
	for _, o := range slices.Concat(objects(t, "kubernetes/agent"), objects(t, "kubernetes/import"), objects(t, "kubernetes/access")) {
		if kind := o["kind"]; kind != "ClusterRole" && kind != "Role" {
			continue
		}
		for _, r := range at(o, "rules").([]any) {
			for _, resource := range at(r, "resources").([]any) {
				for _, verb := range at(r, "verbs").([]any) {
					got = append(got, o["kind"].(string)+" "+resource.(string)+" "+verb.(string))
				}
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"ClusterRole endpointslices list", "ClusterRole endpointslices watch", "ClusterRole events create",
		"ClusterRole namespaces list", "ClusterRole namespaces watch", "ClusterRole services list", "ClusterRole services watch",
		"Role endpointslices create", "Role endpointslices delete", "Role endpointslices patch",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestFilesEndWithALine(t *testing.T) {
	files, _ := filepath.Glob("*/*/*.yaml")
	for _, f := range files {
		if b := []byte(read(t, f)); !bytes.HasSuffix(b, []byte("\n")) || bytes.Contains(b, []byte("\t")) {
			t.Errorf("%s", f)
		}
	}
}
