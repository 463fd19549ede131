package sdk_test

import (
	"fmt"
	"io"
	"net/http"

	"ztm/apps/external/sdk"
)

// An app with a page and a command: `ztm hello` says who asks.
func Example() {
	listener, err := sdk.Listen()
	if err != nil {
		fmt.Println(err)
		return
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello %s.\n", sdk.From(r).User)
	})
	http.Handle("/ztm-command", sdk.Command(func(from sdk.Caller, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
		if len(args) > 0 {
			fmt.Fprintln(stderr, "usage: ztm hello")
			return 2
		}
		fmt.Fprintf(stdout, "Hello %s.\n", from.User)
		return 0
	}))
	fmt.Println(http.Serve(listener, nil))
}
