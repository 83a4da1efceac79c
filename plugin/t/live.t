#!/usr/bin/perl

# Goal: plugin and agent understand each other. Method: a live agent (agent/plugin_test.go starts one) with a
# volume TRINAS_VOLUME, in which images/100 has vm-100-disk-0.raw of 1 MiB and vm-100-disk-1.qcow2.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON;
use Test::More;
use Trinas::TestPVE qw($CLASS @COMMANDS @MOUNTS scfg warnings_of);

plan(skip_all => 'no live agent (go test ./agent -run TestPlugin)') if !$ENV{TRINAS_SOCKET};
$Trinas::Agent::SOCKET = $ENV{TRINAS_SOCKET};

my $node = $ENV{TRINAS_NODE};
my $raw = '100/vm-100-disk-0.raw';
{
    no warnings 'redefine'; ## no critic (ProhibitNoWarnings)
    *PVE::Cluster::get_nodelist = sub { return [$node] };
}
my $scfg = scfg('trinas-volume' => $ENV{TRINAS_VOLUME}, 'trinas-cluster' => undef);

sub dies {
    my ($code) = @_;
    return eval { $code->(); 1 } ? '' : $@;
}

# writers gives the nodes where the image is active.
sub writers {
    my $images = Trinas::Agent::need($scfg, 'GET', 'images', query => { vmid => 100 }, limit => 5);
    my ($image) = grep { $_->{path} eq "images/$raw" } @$images;
    return join(' ', @{ $image->{writers} });
}

is_deeply([warnings_of(sub { $CLASS->on_add_hook('vms', $scfg) })], [], 'added');
like($scfg->{'trinas-cluster'}, qr/^[0-9a-f]+$/, 'the cluster is noted');
is($CLASS->check_connection('vms', $scfg), 1, 'online');
$CLASS->activate_storage('vms', $scfg, {});
like($COMMANDS[-1], qr/port=\d+,mountport=\d+.* 127\.0\.0\.1:\/$ENV{TRINAS_VOLUME} $scfg->{path}$/, 'mounted');
my ($total, $free, $used, $active) = $CLASS->status('vms', $scfg, {});
ok($total > 0 && $free > 0 && $total == $free + $used && $active == 1, 'status');
like($CLASS->get_identity($scfg, 'vms'), qr/^$scfg->{'trinas-cluster'}\/\d+$/, 'identity');

my $images = { map { $_->{volid} => $_ } @{ $CLASS->list_images('vms', $scfg) } };
is_deeply([sort keys %$images], ["vms:$raw", 'vms:100/vm-100-disk-1.qcow2'], 'images');
is($images->{"vms:$raw"}->{size}, 1 << 20, 'size of a raw image');
is($images->{'vms:100/vm-100-disk-1.qcow2'}->{size}, 5 << 30, 'virtual size of a qcow2 image');
is(scalar(@{ $CLASS->list_images('vms', $scfg, 101) }), 0, 'none of another guest');
is_deeply([($CLASS->volume_size_info($scfg, 'vms', '100/vm-100-disk-1.qcow2', 5))[0, 1]], [5 << 30, 'qcow2'], 'size info');

is(writers(), '', 'active nowhere');
$CLASS->activate_volume('vms', $scfg, $raw);
is(writers(), $node, 'active here');
# The file that the base class changes is not below the test's path: it fails.
dies(sub { $CLASS->volume_resize($scfg, 'vms', $raw, 2 << 20, 0) });
is(writers(), $node, 'a change leaves it active');
$CLASS->deactivate_volume('vms', $scfg, $raw);
is(writers(), '', 'active nowhere');
dies(sub { $CLASS->volume_resize($scfg, 'vms', $raw, 2 << 20, 0) });
is(writers(), '', 'a change leaves it inactive');
$CLASS->activate_volume('vms', { %$scfg, 'snapshot-as-volume-chain' => 1 }, $raw);
is(writers(), $node, 'active with its snapshots');

for my $case (
    ['unknown volume', { 'trinas-volume' => 'none' }, qr/volume "none": no such volume/],
    ['strange volume', { 'trinas-volume' => '../x y' }, qr/no such volume/],
    ['another cluster', { 'trinas-cluster' => 'abc' }, qr/meant for the trinas cluster abc, and this node belongs to $scfg->{'trinas-cluster'}/],
) {
    my ($what, $more, $error) = @$case;
    my $got = dies(sub { $CLASS->activate_storage('bad', { %$scfg, %$more }, {}) });
    like($got, qr/\Acannot activate storage 'bad': .*(?:$error)[^\n]*\n\z/, $what);
}
{
    no warnings 'redefine'; ## no critic (ProhibitNoWarnings)
    local *PVE::Cluster::get_nodelist = sub { return [$node, 'pve9'] };
    like(dies(sub { $CLASS->on_add_hook('vms', $scfg) }), qr/\Aevery node of Proxmox needs trinas[^\n]*pve9: not in this[^\n]*\n\z/, 'a node without');
    for my $case ([$Trinas::Agent::LEVEL + 1, qr/is of level \d+, and/], [1, qr/takes requests of level 3 and above/]) {
        local $Trinas::Agent::LEVEL = $case->[0];
        like(dies(sub { $CLASS->activate_storage('vms', $scfg, {}) }), qr/(?:$case->[1])[^\n]*\n\z/, "a plugin of level $case->[0]");
    }
}
like(dies(sub { $CLASS->activate_volume('vms', $scfg, '100/vm-100-disk-7.raw') }), qr/no such image[^\n]*\n\z/, 'no such image');

done_testing();
