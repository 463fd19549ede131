# Completion of ztm for PowerShell. In $PROFILE:  ztm completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName ztm -ScriptBlock {
    param($current, $ast, $cursor)
    $words = @($ast.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.StartOffset -lt $cursor } | ForEach-Object { $_.ToString() })
    # Windows PowerShell drops empty arguments: -e stands for an empty last word.
    $flags = @(if ($current -eq '') { '-e' })
    ztm __complete @flags -- @words 2>$null | ForEach-Object {
        $word, $usage = $_ -split "`t", 2
        if ($word -notin ':files', ':dirs') {
            if (-not $usage) { $usage = $word }
            [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $usage)
        }
    }
}
