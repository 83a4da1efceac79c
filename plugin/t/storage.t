#!/usr/bin/perl

# Goal: the storage is added, activated, looked at and taken away as the agent says, and each thing that can
# be wrong is told in one line.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON;
use Test::More;
use Trinas::FakeAgent;
use Trinas::TestPVE qw($CLASS $REAL @COMMANDS @MOUNTS scfg warnings_of within);

my $OPTIONS = 'vers=3,proto=tcp,mountproto=tcp,port=2050,mountport=2050,nolock,hard,nconnect=4,retry=0';
my $service = {
    cluster => 'c1', id => 9, volume => 'vms', primary => 'pve1', serving => JSON::true, cut_off => JSON::false,
    space => { total_bytes => 1000, free_bytes => 400, files => 3 },
    mount => { source => '127.0.0.1:/vms', options => $OPTIONS },
};

# agent answers every request with the service as it is, changed by %$more.
sub agent {
    my ($more, %opt) = @_;
    return Trinas::FakeAgent->new(answer => sub { return (200, { %$service, %{ $more // {} } }) }, %opt)->use_it();
}

sub refusing {
    my ($code, $error, $hint) = @_;
    return Trinas::FakeAgent->new(answer => sub { return ($code, { error => $error, hint => $hint }) })->use_it();
}

sub dies {
    my ($code) = @_;
    return eval { $code->(); 1 } ? '' : $@;
}

# check_connection
{
    my $agent = agent();
    my $scfg = scfg();
    is_deeply([warnings_of(sub { is($CLASS->check_connection('vms', $scfg), 1, 'online') })], [], 'and nothing to say');
    is_deeply($agent->asked(), ['GET service'], 'asked once');

    $agent = agent({ serving => JSON::false, cut_off => JSON::false, reason => 'no primary yet' });
    is($CLASS->check_connection('vms', $scfg), 1, 'an election passes');
    $agent = agent({ serving => JSON::false, cut_off => JSON::true, reason => "reaches\nnone" });
    is_deeply([warnings_of(sub { is($CLASS->check_connection('vms', $scfg), 0, 'cut off') })],
        ["storage 'vms': reaches none\n"], 'cut off: why');
    $agent = Trinas::FakeAgent->new(how => 'absent')->use_it();
    like(join('', warnings_of(sub { is($CLASS->check_connection('vms', $scfg), 0, 'no agent') })),
        qr/^storage 'vms': no agent answers at \S+: systemctl start trinas\n\z/, 'no agent: why');
    $agent = refusing(404, 'volume "vms": no such volume', '');
    is($CLASS->check_connection('vms', $scfg), 1, 'a refusal is left to activate_storage');
}

# activate_storage: mounts once
{
    my $agent = agent();
    my $scfg = scfg('trinas-options' => 'nconnect=2,noatime');
    my $cache = {};
    @COMMANDS = ();
    is_deeply([warnings_of(sub { $CLASS->activate_storage('vms', $scfg, $cache) })], [], 'activated');
    my $path = $scfg->{path};
    (my $options = $OPTIONS) =~ s/,nconnect=4//;
    is_deeply(
        \@COMMANDS,
        [
            "/usr/bin/chattr +i $path",
            "/usr/bin/systemd-mount --quiet --collect --type=nfs --options=$options,nconnect=2,noatime "
                . "--description=trinas volume vms --property=After=trinas.service --property=TimeoutSec=15 127.0.0.1:/vms $path",
        ],
        'the directory is immutable, then a unit mounts',
    );
    ok(-d $path, 'the directory is there');
    is_deeply($agent->asked(), ['GET service', 'POST provide {"create":false,"folders":["images","template/iso"],"nodes":[]}'],
        'the agent makes the folders');
    is(($CLASS->status('vms', $scfg, $cache))[3], 1, 'the same cache sees the mount');

    @COMMANDS = ();
    Trinas::Mount::mount_volume('vms', $path, 'vms', $service->{mount}, {});
    is_deeply(\@COMMANDS, [], 'somebody else has mounted it while this waited for the lock');

    $agent->asked();
    # Nothing may look at the path from now on: it is a file, on which every look at a folder would fail.
    rmdir($path);
    $CLASS->activate_storage('vms', $scfg, {});
    is_deeply(\@COMMANDS, [], 'mounted: nothing to do');
    is_deeply($agent->asked(), ['GET service'], 'mounted: asked once');
    ok(!-e $path, 'mounted: no look at the path');

    $MOUNTS[0]->[0] = '192.0.2.1:/x';
    is(dies(sub { $CLASS->activate_storage('vms', $scfg, {}) }),
        "cannot activate storage 'vms': something else is mounted at '$path': 192.0.2.1:/x\n", 'something else is there');
    @MOUNTS = ();
}

# activate_storage: waits for a primary, and says why it cannot
{
    my $scfg = scfg();
    my $agent = Trinas::FakeAgent->new(answer => sub {
        my ($method, $path) = @_;
        return (200, { %$service, serving => $path =~ m/wait_sec=5/ ? JSON::true : JSON::false });
    })->use_it();
    $CLASS->activate_storage('vms', $scfg, {});
    is_deeply([grep { m/service/ } @{ $agent->asked() }], ['GET service', 'GET service?wait_sec=5'], 'waited for a primary');
    @MOUNTS = ();

    for my $case (
        ['cut off', agent({ serving => JSON::false, reason => 'this node reaches none' }), qr/^this node reaches none: see trinas status$/],
        ['no NFS', agent({ mount => undef }), qr/^the agent serves no NFS on a loopback address/],
        ['strange source', agent({ mount => { source => '-o x:/y', options => 'ro' } }), qr/where to mount from cannot be used$/],
        ['strange options', agent({ mount => { source => '127.0.0.1:/vms', options => 'a b' } }), qr/mount options cannot be used$/],
        ['unknown volume', refusing(404, 'volume "vms": no such volume (see trinas volume list)', ''), qr/^volume "vms": no such volume/],
        ['another cluster', refusing(409, 'meant for the trinas cluster c1, and this node belongs to c2', 'see trinas status'), qr/belongs to c2: see/],
        ['no cluster', refusing(409, 'this node belongs to no cluster yet', 'trinas init'), qr/belongs to no cluster yet/],
        ['old agent', agent({}, level => 2), qr/is of level 2, and the plugin needs level 3/],
        ['older agent', agent({}, level => undef), qr/is of level 2 or less/],
        ['old plugin', refusing(426, 'the agent takes requests of level 4 and above', 'the program is older'), qr/level 4 and above: the program is older$/],
        ['no agent', Trinas::FakeAgent->new(how => 'absent'), qr/^no agent answers/],
    ) {
        my ($what, $with, $error) = @$case;
        $with->use_it();
        my $got = dies(sub { $CLASS->activate_storage('vms', $scfg, {}) });
        is($got =~ tr/\n//, 1, "$what: one line");
        chomp($got);
        my ($why) = $got =~ m/^cannot activate storage 'vms': (.*)$/;
        like($why, $error, "$what: the reason");
    }
    is_deeply(\@MOUNTS, [], 'nothing was mounted');
}

# activate_storage: what the node cannot do
{
    my $agent = agent();
    my $scfg = scfg();
    local $ENV{NO_CHATTR} = 1;
    like(join('', warnings_of(sub { $CLASS->activate_storage('vms', $scfg, {}) })),
        qr/directory '\Q$scfg->{path}\E' under the mount can be written to/, 'not immutable: a warning');
    is(scalar(@MOUNTS), 1, '... and the mount');
    @MOUNTS = ();
    delete $ENV{NO_CHATTR};
    open(my $fh, '>', "$scfg->{path}/left") or die $!;
    close($fh);
    like(join('', warnings_of(sub { $CLASS->activate_storage('vms', $scfg, {}) })), qr/is not empty/, 'not empty: a warning');
    @MOUNTS = ();
    local $ENV{NO_MOUNT} = 1;
    my $error;
    warnings_of(sub { $error = dies(sub { $CLASS->activate_storage('vms', $scfg, {}) }) });
    like($error, qr/it is not there \(see systemctl status '/, 'a mount that is none');
}

# status
{
    my $agent = agent();
    my $scfg = scfg();
    @MOUNTS = ();
    is_deeply([$CLASS->status('vms', $scfg, {})], [], 'not mounted: inactive');
    is_deeply($agent->asked(), [], '... and not asked');
    @MOUNTS = (['127.0.0.1:/vms', $scfg->{path}, 'nfs']);
    is_deeply([$CLASS->status('vms', $scfg, {})], [1000, 400, 600, 1], 'numbers of the agent');
    for my $how ('silent', 'slow', 'deaf') {
        my $late = Trinas::FakeAgent->new(how => $how)->use_it();
        my @got;
        cmp_ok(within(0.1, sub { @got = $CLASS->status('vms', $scfg, {}) }), '<', 0.1, "$how: in time");
        is_deeply(\@got, [1000, 400, 600, 1], "$how: the last numbers");
    }
    is_deeply([$CLASS->status('other', $scfg, {})], [], 'no last numbers: inactive');
    my $absent = Trinas::FakeAgent->new(how => 'absent')->use_it();
    is_deeply([$CLASS->status('vms', $scfg, {})], [], 'no agent: inactive');
    $agent = agent({ serving => JSON::false });
    is_deeply([$CLASS->status('vms', $scfg, {})], [], 'no agent just now, no primary: inactive');
    $agent = agent();
    $CLASS->status('vms', $scfg, {});
    $agent = agent({ serving => JSON::false });
    is_deeply([$CLASS->status('vms', $scfg, {})], [1000, 400, 600, 1], 'an election: the last numbers');
    $agent = agent({ serving => JSON::false, cut_off => JSON::true });
    is_deeply([$CLASS->status('vms', $scfg, {})], [], 'cut off: inactive');
    $agent = agent({ space => { total_bytes => 0, free_bytes => 0 } });
    is_deeply([$CLASS->status('vms', $scfg, {})], [], 'no numbers yet: inactive');
    $agent = agent({ space => { total_bytes => '12; rm', free_bytes => [] } });
    is_deeply([$CLASS->status('vms', $scfg, {})], [], 'no numbers at all: inactive');
}

# deactivate_storage
{
    my $scfg = scfg();
    @MOUNTS = ();
    @COMMANDS = ();
    $CLASS->deactivate_storage('vms', $scfg, {});
    @MOUNTS = (['127.0.0.1:/vms', $scfg->{path}, 'nfs']);
    $CLASS->deactivate_storage('vms', $scfg, {});
    @MOUNTS = (['127.0.0.1:/vms', $scfg->{path}, 'nfs']);
    $CLASS->deactivate_storage('vms', { %$scfg, 'trinas-options' => 'lazy-unmount' }, {});
    is_deeply(\@COMMANDS, ["/usr/bin/systemctl stop $scfg->{path}", "/usr/bin/umount -l -c $scfg->{path}"], 'lazy only when asked');
}

# hooks
{
    my $agent = agent({ cluster => 'abc-1' });
    my $scfg = scfg();
    delete $scfg->{'trinas-cluster'};
    $CLASS->on_add_hook('vms', $scfg);
    is($scfg->{'trinas-cluster'}, 'abc-1', 'the cluster is noted');
    is_deeply($agent->asked(), ['POST provide {"create":true,"folders":["images","template/iso"],"nodes":["pve1","pve2"]}'],
        'every node, the volume, its folders');
    $agent = refusing(409, 'every node of Proxmox needs trinas: pve2: no agent', '');
    is(dies(sub { $CLASS->on_add_hook('vms', scfg()) }), "every node of Proxmox needs trinas: pve2: no agent\n", 'a node without');
    $agent = agent();
    for my $bad ('soft', 'vers=4', 'port=1', 'nconnect', 'nconnect=x', 'noatime=1', 'lookupcache=x', "noatime\nsoft") {
        like(dies(sub { $CLASS->on_add_hook('vms', scfg('trinas-options' => $bad)) }), qr/^trinas-options: '/, "not '$bad'");
    }
    like(dies(sub { $CLASS->on_add_hook('vms', scfg('content-dirs' => { iso => 'images' })) }),
        qr/^storage 'vms' uses directory 'images' for images and for iso\n$/, 'one folder for two kinds');
    is_deeply($agent->asked(), [], 'nothing was made');
    my $bare = scfg(content => undef);
    delete $bare->{content};
    $CLASS->on_add_hook('vms', $bare);
    is_deeply($agent->asked(), ['POST provide {"create":true,"folders":["images"],"nodes":["pve1","pve2"]}'], 'no content given: the default');
    ok(!exists($bare->{content}), '... and none is written');
    $CLASS->on_add_hook('vms', scfg('create-subdirs' => 0, 'content-dirs' => { images => 'a//b/' }));
    is_deeply($agent->asked(), ['POST provide {"create":true,"folders":[],"nodes":["pve1","pve2"]}'], 'no folders');

    $CLASS->on_update_hook_full('vms', scfg(), { disable => 1 }, ['nodes'], {});
    is_deeply($agent->asked(), [], 'an update that matters not');
    $CLASS->on_update_hook_full('vms', scfg(), { content => { backup => 1 } }, undef, {});
    is_deeply($agent->asked(), ['POST provide {"create":false,"folders":["dump"],"nodes":[]}'], 'an update of the content');
    like(join('', warnings_of(sub { $CLASS->on_update_hook_full('vms', scfg(), { 'trinas-options' => 'noatime' }, undef, {}) })),
        qr/from the next mount/, 'new options');
    my $cfg = { ids => { vms => scfg() } };
    no warnings 'redefine'; ## no critic (ProhibitNoWarnings)
    local *PVE::Storage::config = sub { return $cfg };
    $CLASS->on_update_hook('vms', { content => { iso => 1 } });
    is_deeply($agent->asked(), ['POST provide {"create":false,"folders":["template/iso"],"nodes":[]}'], 'the older hook does the same');
}

# on_delete_hook
{
    my $scfg = scfg();
    mkdir($scfg->{path}) or die $!;
    @MOUNTS = (['127.0.0.1:/vms', $scfg->{path}, 'nfs']);
    @COMMANDS = ();
    is_deeply([warnings_of(sub { $CLASS->on_delete_hook('vms', $scfg) })], [], 'taken away');
    is_deeply(\@COMMANDS, ["/usr/bin/systemctl stop $scfg->{path}", "/usr/bin/chattr -i $scfg->{path}"], 'unmounted here');
    ok(!-d $scfg->{path}, 'the directory is gone');
    @MOUNTS = (['192.0.2.1:/x', $scfg->{path}, 'nfs']);
    like(join('', warnings_of(sub { $CLASS->on_delete_hook('vms', $scfg) })), qr/stays on this node: something else/, 'never dies');
}

# get_identity
{
    my $agent = agent({ id => 9007199254740993 });
    is($CLASS->get_identity(scfg(), 'vms'), 'c1/9007199254740993', 'identity');
    $agent = agent({ id => undef, cluster => '' });
    like(dies(sub { $CLASS->get_identity(scfg(), 'vms') }), qr/does not say which volume/, 'no identity');
}

done_testing();
