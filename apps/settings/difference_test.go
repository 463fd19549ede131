package settings

import "testing"

func TestADifferenceSaysWhatCameWentAndChanged(t *testing.T) {
	type grant struct {
		Path  string   `json:"path"`
		Users []string `json:"users"`
	}
	type value struct {
		Users []string `json:"users,omitempty"`
		Shell string   `json:"shell,omitempty"`
		Quota int64    `json:"quota,omitempty"`
		Allow []grant  `json:"allow,omitempty"`
		Inbox struct {
			Dir   string   `json:"dir,omitempty"`
			Users []string `json:"users,omitempty"`
		} `json:"inbox,omitzero"`
	}
	var full value
	full.Users, full.Shell, full.Quota = []string{"bob", "carol"}, "/bin/sh", 1<<53+1
	full.Allow = []grant{{"/srv", []string{"bob", "group:ops"}}}
	full.Inbox.Users = []string{"eve"}
	other := full
	other.Users, other.Shell = []string{"carol", "dora"}, "/bin/zsh"
	swapped := full
	swapped.Users = []string{"carol", "bob"}
	for _, test := range []struct {
		before, after value
		want          string
	}{
		{value{}, value{}, ""},
		{full, full, ""},
		{full, other, "shell: /bin/sh -> /bin/zsh; users: -bob +dora"},
		{full, swapped, "users: in another order"},
		{value{}, full, "allow: +(path /srv, users bob,group:ops); inbox users: +eve; quota: none -> 9007199254740993; shell: none -> /bin/sh; users: +bob +carol"},
		{full, value{}, "allow: -(path /srv, users bob,group:ops); inbox users: -eve; quota: 9007199254740993 -> none; shell: /bin/sh -> none; users: -bob -carol"},
	} {
		if got := Difference(test.before, test.after); got != test.want {
			t.Errorf("the difference is %q, want %q", got, test.want)
		}
	}
}
