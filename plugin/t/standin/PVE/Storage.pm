package PVE::Storage;

# Stand-in for Proxmox's storage layer: only what the plugin and its tests use, in the tests' words.

use strict;
use warnings;

use PVE::Storage::Plugin;
use PVE::Storage::DirPlugin;

our $VERSION_OF_API = 15;
our $CONFIG = { ids => {} };

sub APIVER { return $VERSION_OF_API }
sub config { return $CONFIG }

sub storage_config {
    my ($cfg, $storeid) = @_;
    return $cfg->{ids}->{$storeid} // die "storage '$storeid' does not exist\n";
}

PVE::Storage::DirPlugin->register();
PVE::Storage::Plugin->init();

1;
