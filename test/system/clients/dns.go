// Go's own resolver, with no C in it: addresses of the names that are given, a line each.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		addresses, err := resolver.LookupHost(context.Background(), name)
		if err != nil {
			if failed, ok := err.(*net.DNSError); ok && failed.IsNotFound {
				fmt.Println("not found")
				continue
			}
			fmt.Println(err)
			continue
		}
		sort.Strings(addresses)
		fmt.Println(strings.Join(addresses, " "))
	}
}
