// Controlplane is the lab's Kubernetes control plane in one file: its first argument selects what the process is,
// and everything after it is read by that program's own command line, so that flags are the upstream ones.
//
// One process a role: the Kubernetes commands register their flags globally and panic when two are made in one process.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	componentversion "k8s.io/component-base/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	gatewayapi "sigs.k8s.io/gateway-api/pkg/consts"
)

const usage = `usage: controlplane ROLE [FLAG...]

Roles, each with the flags of the upstream program (--help lists them):
  etcd
  kube-apiserver
  kube-controller-manager
and
  versions    print what this binary was built from
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	role, args := os.Args[1], os.Args[2:]
	switch role {
	case "etcd":
		etcdmain.Main(append([]string{role}, args...))
	case "kube-apiserver":
		os.Exit(run(apiserver.NewAPIServerCommand(), args))
	case "kube-controller-manager":
		os.Exit(run(controllermanager.NewControllerManagerCommand(), args))
	case "versions":
		fmt.Println("kubernetes", componentversion.Get().GitVersion)
		fmt.Println("etcd", version.Version)
		fmt.Println("gateway-api", gatewayapi.BundleVersion)
	default:
		fmt.Fprintf(os.Stderr, "controlplane: unknown role %q\n\n%s", role, usage)
		os.Exit(2)
	}
}

// run gives the command only the arguments after the role; without it cobra would read those of the whole process.
func run(command *cobra.Command, args []string) int {
	command.SetArgs(args)
	return cli.Run(command)
}
