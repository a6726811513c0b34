// Probe is the program of the pods that try out the cluster itself.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	switch os.Args[1] {
	case "serve": // an address: answer every request with a word
		http.HandleFunc("/", func(to http.ResponseWriter, _ *http.Request) { fmt.Fprint(to, "served") })
		fail(http.ListenAndServe(os.Args[2], nil))
	case "fetch": // a URL: print what is there, when there is something
		for {
			if answer, err := http.Get(os.Args[2]); err == nil {
				body, _ := io.ReadAll(answer.Body)
				fmt.Println(string(body))
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	case "resolve": // a name: print its addresses
		addresses, err := net.LookupHost(os.Args[2])
		fail(err)
		fmt.Println(addresses)
	case "eat": // memory, until there is none left
		var eaten [][]byte
		for {
			bite := make([]byte, 1<<20)
			for at := range bite {
				bite[at] = 1
			}
			eaten = append(eaten, bite)
		}
	case "read": // a file: print it
		content, err := os.ReadFile(os.Args[2])
		fail(err)
		fmt.Print(string(content))
	case "write": // a file
		fail(os.WriteFile(os.Args[2], []byte("written"), 0o600))
	case "idle":
		fmt.Println("idle", os.Getuid())
		time.Sleep(time.Hour)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
