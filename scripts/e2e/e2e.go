// Package e2e tests the built binary with real programs: curl, ssh, iperf3, databases, netcat, in one machine or in
// network namespaces.
//
//	build ztm -> hub and agents as processes, each with a directory of its own -> drive them by the command line
//	          -> real clients and servers at both ends -> look at what arrived, at exit statuses, at /proc
//
// There is nothing in it but tests. They run on Linux as root, with the programs of packages.txt:
//
//	go test ./scripts/e2e
//
// A test whose program is missing is skipped and names the Debian package; where CI is set in the environment it fails.
// With -short none of them runs.
package e2e
