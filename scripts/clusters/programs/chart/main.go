// Command chart prints the manifests of a Helm chart, as `helm template` does: chart NAME NAMESPACE
// DIR [VALUES]. VALUES is a file of YAML.
package main

import (
	"fmt"
	"log"
	"maps"
	"os"
	"slices"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: chart NAME NAMESPACE DIR [VALUES]")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		log.Fatal(err)
	}
}

func run(name, namespace, dir string, files []string) error {
	c, err := loader.Load(dir)
	if err != nil {
		return err
	}
	values := chartutil.Values{}
	for _, file := range files {
		v, err := chartutil.ReadValuesFile(file)
		if err != nil {
			return err
		}
		values = chartutil.CoalesceTables(v, values)
	}
	options := chartutil.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, nil)
	if err != nil {
		return err
	}
	out, err := engine.Render(c, all)
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(out)) {
		fmt.Printf("---\n# %s\n%s\n", file, out[file])
	}
	return nil
}
