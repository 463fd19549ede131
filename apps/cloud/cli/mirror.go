package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	"ztm/apps"
	"ztm/apps/cloud"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/state"
)

// mirrors lists the mirrors of an endpoint.
func (k *client) mirrors(ctx context.Context) error {
	var list []cloud.MirrorState
	if err := k.ask(ctx, http.MethodGet, "mirrors", nil, &list); err != nil {
		return err
	}
	return k.showMirrors(list)
}

func (k *client) showMirrors(list []cloud.MirrorState) error {
	t := &apps.Table{Header: []string{"PATH", "DOWNLOAD", "UPLOAD", "FILES", "RULES", "STATE"}}
	for _, m := range list {
		how := "in step"
		switch {
		case m.Error != "":
			how = m.Error
		case m.Looking:
			how = "looking at it"
		case m.Todo > 0:
			how = fmt.Sprintf("%d files to do", m.Todo)
		case len(m.Held) > 0:
			how = fmt.Sprintf("%d deletions wait: ztm cloud mirror %s --confirm", len(m.Held), state.Quoted(m.Path))
		}
		t.Add(apps.Bytes(m.Path).String(), apps.OnOff(m.Download), apps.OnOff(m.Upload), fmt.Sprint(m.Files), apps.Printable(rules(m)), apps.Printable(how))
	}
	return k.Print(list, t)
}

// rules says what of its path a mirror leaves out, and how fast it fetches.
func rules(m cloud.MirrorState) string {
	var list []string
	if m.Selective {
		list = append(list, "selective")
	}
	if len(m.Include) > 0 {
		list = append(list, "only "+strings.Join(m.Include, " "))
	}
	if len(m.Exclude) > 0 {
		list = append(list, "not "+strings.Join(m.Exclude, " "))
	}
	if m.Limit > 0 {
		list = append(list, rateText(m.Limit))
	}
	return cmp.Or(strings.Join(list, ", "), "-")
}

// mirror changes a mirror, or tells what it would do.
func (k *client) mirror(ctx context.Context, c mirror.Change) error {
	var m cloud.MirrorState
	if err := k.ask(ctx, http.MethodPost, "mirrors", c, &m); err != nil {
		return err
	}
	if !c.DryRun {
		return k.showMirrors([]cloud.MirrorState{m})
	}
	t := &apps.Table{Header: []string{"WOULD"}}
	for _, line := range m.Plan {
		t.Add(apps.Printable(line))
	}
	for _, path := range m.Held {
		t.Add(apps.Printable("ask before it deletes " + path))
	}
	return k.Print(m, t)
}
