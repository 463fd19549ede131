package main

import (
	"strings"
	"testing"
)

// giving are the command lines that give a user access.
var giving = []string{
	"tunnel open outbound tcp/web --targets 127.0.0.1:80 --users",
	"tunnel set outbound tcp/web --users",
	"tunnel allow --target 10.0.0.0/8:22 --users",
	"terminal config --add-user",
	"script config --add-user",
	"proxy rules --targets * --action allow --users",
	"proxy config --trust",
	"file allow /srv --users",
	"file inbox --add-user",
}

// TestANameThatNobodyCanHaveIsWrongUsage holds that a grant to nobody is not mistaken for one to a
// group.
func TestANameThatNobodyCanHaveIsWrongUsage(t *testing.T) {
	agent := newRecorder(t)
	lines := append(giving, "invite", "evict")
	for _, line := range lines {
		for _, name := range []string{"label:", "group:", "group:a b", "@grp", "no such user"} {
			status, stderr, requests := agent.run(append(strings.Fields(line), name)...)
			for _, request := range requests {
				if !strings.HasPrefix(request, "GET ") {
					t.Errorf("%s %s: the agent was asked for %s", line, name, request)
				}
			}
			if status != 2 {
				t.Errorf("%s %s: status %d, %s", line, name, status, stderr)
			}
		}
	}
}

func TestAUserWhoIsNotInTheMeshIsToldOf(t *testing.T) {
	agent := newRecorder(t)
	for _, line := range giving {
		for name, want := range map[string]bool{"bob": false, "bbo": true} {
			_, stderr, _ := agent.run(append(strings.Fields(line), name)...)
			if got := strings.Contains(stderr, "warning: ") && strings.Contains(stderr, name); got != want {
				t.Errorf("%s %s: a warning is %t, want %t: %s", line, name, got, want, stderr)
			}
		}
	}
}

// TestANameThatMovedToAnotherDeviceIsNotTyped holds that a shell is not opened, nor a script sent,
// where another device has taken the name.
func TestANameThatMovedToAnotherDeviceIsNotTyped(t *testing.T) {
	agent := newRecorder(t)
	for _, line := range []string{
		"mesh demo terminal open nas -- id", "ep demo/nas terminal open -- id", "mesh demo terminal attach nas", "mesh demo script - --ep nas", "ep demo/nas script -",
	} {
		for taken, want := range map[string]bool{"": true, "nas": false} {
			agent.taken = taken
			status, stderr, requests := agent.run(strings.Fields(line)...)
			flows := 0
			for _, request := range requests {
				if strings.Contains(request, "/flows/") {
					flows++
				}
			}
			if (flows > 0) != want || status == 0 || strings.Contains(stderr, "forget") == want {
				t.Errorf("%s, name taken %t: status %d, %d flows, %s", line, !want, status, flows, stderr)
			}
		}
	}
}
