//go:build ztm_router

package console

import (
	"ztm/agent/console/grammar"
	"ztm/apps"
)

// writePages is left out: nobody makes packages on a router.
func writePages(*grammar.Command, []string) error {
	return apps.Usagef("this build of ztm writes no manual pages")
}
