<#
.SYNOPSIS
Makes a checkout ready on Windows: QEMU, a Python virtual environment in .venv, hostvm in it.

.DESCRIPTION
    powershell -ExecutionPolicy Bypass -File scripts\setup.ps1 [-Qemu winget|pip|none] [-Tests]

QEMU comes from winget, or with -Qemu pip from the Python package of the [qemu] extra, which needs no
administrator. Safe to run again: what is there stays.
#>
[CmdletBinding()]
param(
    [ValidateSet('winget', 'pip', 'none')]
    [string]$Qemu = 'winget',
    [switch]$Tests
)

$ErrorActionPreference = 'Stop'
Set-Location (Split-Path -Parent $PSScriptRoot)

function Say([string]$Text) {
    Write-Host "setup: $Text"
}

# Programs do not raise errors in Windows PowerShell; their exit status has to be looked at.
function Invoke-Checked([string]$Program, [string[]]$Arguments) {
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "$Program $($Arguments -join ' ') ended with status $LASTEXITCODE"
    }
}

# The newest Python that is new enough, as words for Invoke-Checked; the py launcher knows all of them.
function Find-Python {
    $ErrorActionPreference = 'Continue' # Windows PowerShell makes an error of each line on a program's stderr
    foreach ($version in '3.14', '3.13', '3.12', '3.11') {
        if (Get-Command py -ErrorAction SilentlyContinue) {
            & py "-$version" -c 'pass' 2>$null
            if ($LASTEXITCODE -eq 0) { return @('py', "-$version") }
        }
    }
    if (Get-Command python -ErrorAction SilentlyContinue) {
        & python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>$null
        if ($LASTEXITCODE -eq 0) { return @('python') }
    }
}

function Install-WithWinget([string]$Id) {
    if (-not (Get-Command winget -ErrorAction SilentlyContinue)) {
        throw "winget is not here; install $Id by hand, then run this again"
    }
    Say "installing $Id"
    Invoke-Checked winget @('install', '--exact', '--id', $Id, '--silent',
        '--accept-package-agreements', '--accept-source-agreements')
}

$python = @(Find-Python) # an array also when it is one word
if ($python.Count -eq 0) {
    Install-WithWinget 'Python.Python.3.13'
    $env:Path = [Environment]::GetEnvironmentVariable('Path', 'Machine') + ';' +
        [Environment]::GetEnvironmentVariable('Path', 'User')
    $python = @(Find-Python)
    if ($python.Count -eq 0) { throw 'Python was installed but is not found; open a new terminal and run this again' }
}

$installed = (Get-Command qemu-system-x86_64 -ErrorAction SilentlyContinue) -or
    (Test-Path (Join-Path $env:ProgramFiles 'qemu\qemu-system-x86_64.exe'))
if ($Qemu -eq 'winget' -and -not $installed) {
    Install-WithWinget 'SoftwareFreedomConservancy.QEMU'
}

$venvPython = Join-Path (Get-Location) '.venv\Scripts\python.exe'
if (-not (Test-Path $venvPython)) {
    Say 'making .venv'
    $words = @($python | Select-Object -Skip 1) + @('-m', 'venv', '.venv')
    Invoke-Checked $python[0] $words
}

Say 'installing hostvm and its Python packages into .venv'
$target = if ($Qemu -eq 'pip') { '.[qemu]' } else { '.' }
Invoke-Checked $venvPython @('-m', 'pip', 'install', '--quiet', '--upgrade', 'pip>=25.1')
# A plain path instead of an import hook, which would slow down every start of the client.
$words = @('-m', 'pip', 'install', '--quiet', '--config-settings', 'editable_mode=compat', '--editable', $target)
if ($Tests) { $words += @('--group', 'lint', '--group', 'test') }
Invoke-Checked $venvPython $words

Say 'done: .venv\Scripts\hostvm.exe'
Say 'for speed turn on the Windows feature "Windows Hypervisor Platform" (as administrator, then restart):'
Say '  Enable-WindowsOptionalFeature -Online -FeatureName HypervisorPlatform'
